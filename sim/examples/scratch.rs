use rebound_sim::{faults::Choice, fuzz, plant::Plant};
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    fuzz::keep_panics_quiet();
    let mut sum = std::collections::BTreeMap::new();
    for seed in args[0]..args[1] {
        let o = fuzz::run_seed(seed, Plant::default(), &Choice::default());
        for (k, v) in &o.counters {
            *sum.entry(*k).or_insert(0u64) += v;
        }
        if !o.violations.is_empty() {
            println!(
                "seed {seed} {} s: {:?}\n{}",
                o.virtual_us / 1_000_000,
                o.violations,
                o.faults
            );
        }
    }
    for (k, v) in sum {
        println!("{v:>8} {k}");
    }
}
