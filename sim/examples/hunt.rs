use rebound_sim::plant::{self, Plant};
fn main() {
    for name in std::env::args().skip(1) {
        let plant = Plant::named(&name).expect("a bug of that name");
        match plant::hunt(plant, 200, 1) {
            Some(o) => println!(
                "{name}: seed {} tripped {:?}: {}",
                o.seed,
                o.tripped,
                o.violations.join("; ").chars().take(220).collect::<String>()
            ),
            None => println!("{name}: NOT FOUND"),
        }
    }
}
