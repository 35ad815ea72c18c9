use super::*;
use rebound_core::state::launches::Choice;

fn cloud(nature: Nature) -> SimCloud {
    SimCloud::new(nature, Rng::new(1))
}

fn kind() -> Nature {
    Nature {
        room: 4,
        quota: 100,
        ..Nature::default()
    }
}

fn launch(count: u32, token: &str) -> CloudCall {
    let choice = |zone: &str| Choice {
        zone_id: zone.into(),
        instance_type: "c5.large".into(),
        vcpus: 2,
        price: MicroUsd(1),
        bound: MicroUsd(2),
    };
    let wanted = Wanted {
        region: "r".into(),
        market: Market::Spot,
        choices: vec![choice("a"), choice("b")],
        count,
        template: 1,
    };
    CloudCall::Launch {
        launch: LaunchId(7),
        token: token.into(),
        wanted,
        not_after: Time(u64::MAX),
    }
}

fn ids(outcome: CloudOutcome) -> (Vec<String>, usize) {
    match outcome {
        CloudOutcome::Launched { started, lacked } => {
            (started.into_iter().map(|one| one.id.0).collect(), lacked.len())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_gives_the_same_machines_and_takes_no_other_request() {
    let mut cloud = cloud(kind());
    let first = ids(cloud.call(0, &launch(3, "t"), Time));
    assert_eq!(ids(cloud.call(9, &launch(3, "t"), Time)), first);
    assert_eq!(cloud.live().count(), 3);
    assert!(matches!(
        cloud.call(9, &launch(2, "t"), Time),
        CloudOutcome::Refused { .. }
    ));
    assert_ne!(ids(cloud.call(9, &launch(3, "u"), Time)), first);
}

#[test]
fn pools_run_dry_and_quotas_are_used_up() {
    let mut cloud = cloud(kind());
    assert_eq!(
        ids(cloud.call(0, &launch(10, "t"), Time)).1,
        2,
        "four in each of two pools"
    );
    assert_eq!(cloud.live().count(), 8);
    let mut small = SimCloud::new(Nature { quota: 5, ..kind() }, Rng::new(1));
    assert_eq!(ids(small.call(0, &launch(4, "t"), Time)).0.len(), 2);
}

#[test]
fn lists_lag_behind_and_what_is_not_shown_cannot_be_ended() {
    let mut cloud = cloud(Nature {
        lag: 300 * SECOND,
        ..kind()
    });
    let (started, _) = ids(cloud.call(0, &launch(4, "t"), Time));
    let machines: Vec<InstanceId> = started.into_iter().map(InstanceId).collect();
    let list = CloudCall::List { region: "r".into() };
    let shown = |cloud: &mut SimCloud, now| match cloud.call(now, &list, Time) {
        CloudOutcome::Listed(found) => found,
        other => panic!("{other:?}"),
    };
    assert!(shown(&mut cloud, 0).len() < 4);
    let end = CloudCall::Terminate {
        region: "r".into(),
        machines,
    };
    assert!(matches!(cloud.call(0, &end, Time), CloudOutcome::Retry { .. }));
    let later = 301 * SECOND;
    assert_eq!(shown(&mut cloud, later).len(), 4);
    assert!(matches!(cloud.call(later, &end, Time), CloudOutcome::Terminating));
    assert!(
        shown(&mut cloud, later)
            .iter()
            .all(|one| one.ended.is_some() && one.running.is_some())
    );
    assert_eq!(shown(&mut cloud, later + SHOWN + 1), []);
}

#[test]
fn too_many_calls_at_once_are_refused() {
    let mut cloud = cloud(Nature {
        room: 1_000,
        quota: 100_000,
        ..kind()
    });
    let refused = (0..60).filter(|n| {
        let outcome = cloud.call(SECOND, &launch(1, &format!("{n}")), Time);
        matches!(outcome, CloudOutcome::Retry { .. })
    });
    assert_eq!(refused.count(), 10);
}

#[test]
fn a_spell_is_over_at_its_end_and_what_is_healed_is_well() {
    let mut cloud = cloud(kind());
    cloud.befall(Kind::Throttle, SECOND, 1_000_000);
    let outcome = |cloud: &mut SimCloud, now, token| cloud.call(now, &launch(1, token), Time);
    assert!(matches!(outcome(&mut cloud, 0, "t"), CloudOutcome::Retry { .. }));
    assert_eq!(ids(outcome(&mut cloud, SECOND, "t")).0.len(), 1);
    cloud.befall(Kind::Throttle, 9 * SECOND, 1_000_000);
    assert!(matches!(
        outcome(&mut cloud, 2 * SECOND, "u"),
        CloudOutcome::Retry { .. }
    ));
    cloud.heal();
    assert_eq!(ids(outcome(&mut cloud, 2 * SECOND, "u")).0.len(), 1);
}

#[test]
fn stale_lists_lack_what_is_new_and_show_what_has_ended_until_the_spell_is_over() {
    let mut cloud = cloud(kind());
    let (started, _) = ids(cloud.call(0, &launch(4, "t"), Time));
    let list = CloudCall::List { region: "r".into() };
    let live = |cloud: &mut SimCloud, now| match cloud.call(now, &list, Time) {
        CloudOutcome::Listed(found) => found.iter().filter(|one| one.ended.is_none()).count(),
        other => panic!("{other:?}"),
    };
    let over = 300 * SECOND;
    cloud.befall(Kind::StaleList, over, 0);
    for id in started.into_iter().map(InstanceId) {
        cloud.reclaim(SECOND, &id);
    }
    ids(cloud.call(SECOND, &launch(1, "u"), Time));
    assert!(live(&mut cloud, SECOND) > 1, "some have ended and are shown");
    assert_eq!(live(&mut cloud, over), 1, "the new one");
}

#[test]
fn while_pools_are_dry_fleets_come_in_each_manner() {
    let mut cloud = SimCloud::new(
        Nature {
            room: 1_000,
            quota: 100_000,
            ..kind()
        },
        Rng::new(1),
    );
    cloud.befall(Kind::Dry, u64::MAX, 0);
    let dry = Pool {
        region: "r".into(),
        zone_id: "a".into(),
        instance_type: "c5.large".into(),
        market: Market::Spot,
    };
    cloud.dry.insert(dry, u64::MAX);
    for n in 0..60 {
        let (started, _) = ids(cloud.call(n * SECOND, &launch(4, &format!("{n}")), Time));
        assert!(started.len() <= 4);
    }
    for manner in [
        "launches filled with errors",
        "launches filled in part",
        "launches short without a word",
    ] {
        assert!(cloud.calls.contains_key(manner), "{manner}: {:?}", cloud.calls);
    }
}
