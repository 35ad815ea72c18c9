//! At least, and at most: caps and schedules.

use super::*;
use crate::schedule::Schedule;

#[test]
fn caps_that_are_lowered_let_machines_go_those_with_nothing_to_do_first() {
    let mut fleet = fleet(&[(Some(later(600)), 900)]);
    for at in 0..6 {
        let mut one = unit(spot("a"), NOW);
        one.machine = Some(InstanceId(format!("i-{at}")));
        one.worker = Some(WorkerId(at + 1));
        (one.held, one.idle) = if at < 3 { (4, None) } else { (0, Some(NOW)) };
        fleet.units.push(one);
    }
    let gone = |fleet: &Fleet| -> Vec<String> {
        let over = plan(fleet)
            .let_go
            .into_iter()
            .filter(|one| one.why == EndWhy::Cap);
        over.map(|one| one.machine.0).collect()
    };
    assert_eq!(gone(&fleet), Vec::<String>::new());
    fleet.control.scaling.caps.instances = 4;
    assert_eq!(gone(&fleet).len(), 2);
    assert!(
        gone(&fleet)
            .iter()
            .all(|id| ["i-3", "i-4", "i-5"].contains(&id.as_str()))
    );
    fleet.control.scaling.caps.instances = 100;
    fleet.control.scaling.caps.vcpus = 8;
    assert_eq!(gone(&fleet).len(), 4);
    fleet.control.scaling.caps.vcpus = 1_000;
    // What has been spent is all that may be.
    (fleet.control.scaling.caps.hour, fleet.spent) = (1_000, (1_000, 1_000));
    assert_eq!(gone(&fleet).len(), 6, "a cap beats a deadline");
    assert_eq!(plan(&fleet).buy, []);
}

#[test]
fn machines_are_there_before_a_schedule_begins_and_stay_while_it_lasts() {
    let mut fleet = fleet(&[]);
    fleet.control.scaling.schedules = vec![Schedule {
        name: "opening".into(),
        // NOW is 1970-01-12, a Monday, 13:46:40 UTC.
        cron: "48 13 * * 1".into(),
        time_zone: "UTC".into(),
        lasts: 10 * MINUTE,
        recogniser: "shelf".into(),
        at_least: 3,
        at_most: Some(5),
    }];
    let at = |seconds: u64, fleet: &Fleet| capacity(1, later(seconds), fleet);
    assert_eq!(at(19, &fleet).buy, [], "more than a minute before");
    let buy = at(20, &fleet).buy;
    assert_eq!(buy.iter().map(|buy| buy.wanted.count).sum::<u32>(), 3);
    let why = buy[0].because.ahead.clone();
    assert_eq!(
        why,
        Some(Ahead::Schedule {
            name: "opening".into()
        })
    );
    for number in 0..4 {
        let mut one = unit(spot("a"), NOW);
        one.machine = Some(InstanceId(format!("i-{number}")));
        (one.worker, one.idle) = (Some(WorkerId(number + 1)), Some(NOW));
        fleet.units.push(one);
    }
    assert_eq!(at(600, &fleet).buy, []);
    assert_eq!(at(600, &fleet).let_go.len(), 1, "one more than it asks for");
    assert_eq!(at(700, &fleet).let_go.len(), 4, "it is over");
    fleet.needs[0].due = vec![(Some(later(600)), 5_000)];
    fleet.committed.instances = 4;
    let buy = at(100, &fleet).buy;
    assert_eq!(
        buy.iter().map(|buy| buy.wanted.count).sum::<u32>(),
        1,
        "five at most"
    );
    assert_eq!(buy[0].because.capped, Some(Capped::Schedule));
}
