use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::pool;

const MINUTE: u64 = 60_000_000;

fn read(text: &str) -> Result<(Format, Parsed), FileError> {
    parse("f.csv", text.as_bytes().to_vec(), &ZoneNames::new(), None)
}

fn prices(text: &str) -> Prices {
    match read(text).unwrap().1 {
        Parsed::Prices(prices) => prices,
        other => panic!("{other:?}"),
    }
}

#[test]
fn prices_in_columns() {
    let text = "instance_type,zone,epoch_s,usd_per_hour,on_demand,placement_score,interruption_free_score\n\
                c5.large,euw1-az1,1704070800,0.039,0.096,3,2.5\n\
                c5.large,euw1-az1,1704067200,0.038,0.096,2,3.0\n";
    let all = prices(text);
    assert_eq!(all.told.len(), 2);
    assert_eq!(
        (all.told[0].micros, all.told[0].line),
        (38_000, 3),
        "oldest first"
    );
    assert_eq!(pool::text(&all.told[0].pool), "c5.large@euw1-az1/spot");
    let listed = all.on_demand.unwrap();
    assert_eq!(listed.as_of(), Some(Time(1_704_070_800_000_000)));
    assert_eq!(
        listed.of_region("eu-west-1").collect::<Vec<_>>(),
        [("c5.large", MicroUsd(96_000))]
    );
    assert_eq!(all.advice.band("eu-west-1", "c5.large"), Some(0));
    assert_eq!(all.advice.score("euw1-az1", "c5.large"), Some(6));
}

#[test]
fn ec2_as_it_comes() {
    let page = |zone: &str, product: &str| {
        format!(
            r#"{{"SpotPriceHistory": [{{"AvailabilityZone": "{zone}", "InstanceType": "m5.large",
               "ProductDescription": "{product}", "SpotPrice": "0.034600",
               "Timestamp": "2026-11-03T08:46:18.000Z"}}], "NextToken": ""}}"#
        )
    };
    let two = format!(
        "{}\n{}",
        page("us-east-1a", "Linux/UNIX"),
        page("us-east-1b", "Windows")
    );
    let all = prices(&two);
    assert_eq!(all.told.len(), 1);
    assert_eq!(all.told[0].micros, 34_600);
    assert_eq!(all.told[0].at, Time(1_793_695_578_000_000));
    assert_eq!(all.skipped, BTreeMap::from([("Windows".to_owned(), 1)]));
    let offset = two.replace(".000Z", "+00:00");
    assert_eq!(prices(&offset).told, all.told);
    let with_id = page("us-east-1a", "Linux/UNIX").replace(
        "\"InstanceType\"",
        "\"AvailabilityZoneId\": \"use1-az6\", \"InstanceType\"",
    );
    assert_eq!(prices(&with_id).told[0].pool.zone_id, "use1-az6");
}

#[test]
fn capacity_tick_by_tick() {
    let text = r#"{"metadata": {"gap_seconds": 60}, "data": [0, 1, 1, 0, 0, 1, 0], "prices": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8]}"#;
    let (format, Parsed::Capacity(all)) = read(text).unwrap() else {
        panic!("not a capacity");
    };
    assert_eq!(format, Format::SpotTrace);
    assert_eq!(
        all.points,
        [
            (0, 0),
            (MINUTE, 1),
            (3 * MINUTE, 0),
            (5 * MINUTE, 1),
            (6 * MINUTE, 0)
        ]
    );
    assert_eq!((all.lost, all.end), (2, 7 * MINUTE));
    assert_eq!(all.lives, [2 * MINUTE, MINUTE]);
    assert_eq!(all.downs, [2 * MINUTE]);
    assert_eq!(
        all.prices,
        [(0, MicroUsd(900_000)), (6 * MINUTE, MicroUsd(800_000))]
    );
}

#[test]
fn machines_that_came_and_went() {
    let (_, Parsed::Capacity(all)) =
        read("0,add,a\n1000,add,b\n3000,remove,b\n3000,add,c\n9000,remove,a\n").unwrap()
    else {
        panic!("not a capacity");
    };
    assert_eq!(
        all.points,
        [(0, 1), (1_000_000, 2), (3_000_000, 2), (9_000_000, 1)]
    );
    assert_eq!((all.lost, all.end), (2, 9_000_000));
    assert_eq!(all.lives, [2_000_000, 9_000_000]);
}

#[test]
fn lists_and_bands() {
    let text = "instance_type,region,operating_system,currency,price_per_hour\n\
                c5.large,us-east-1,Linux,USD,0.085\nc5.large,us-east-2,Windows,USD,0.177\n\
                c5.large,cn-north-1,Linux,CNY,0.6\n";
    let (format, Parsed::OnDemand(all)) = read(text).unwrap() else {
        panic!("not a list");
    };
    assert_eq!((format, all.len(), all.as_of()), (Format::OnDemand, 3, None));
    assert_eq!(all.of_region("us-east-1").count(), 1);
    assert_eq!(
        all.of_region("us-east-2").count() + all.of_region("cn-north-1").count(),
        0
    );
    let (_, Parsed::Advisor(bands)) =
        read("instance_type,region,savings_pct,interruption_band\nc5.large,us-east-1,60,1\n").unwrap()
    else {
        panic!("not an advisor");
    };
    assert_eq!(bands.band("us-east-1", "c5.large"), Some(1));
}

#[test]
fn faults_name_line_field_and_fix() {
    let head = "instance_type,zone,epoch_s,usd_per_hour\n";
    let table = [
        (
            format!("{head}c5.large,use1-az1,1704067200,cheap\n"),
            "f.csv:2: usd_per_hour: `cheap`",
        ),
        (
            format!("{head}c5.large,use1-az1,17040672000000,1\n"),
            "f.csv:2: epoch_s: `17040672000000` is no time",
        ),
        (
            format!("{head}c5.large,use1-az1,1704067200,1\nc5.large,moon,1704067200,1\n"),
            "f.csv:3: zone: `moon` is not a zone",
        ),
        (
            format!("{head}c5 large,use1-az1,1704067200,1\n"),
            "f.csv:2: instance_type",
        ),
        (
            format!("{head}c5.large,use1-az1,1704067200\n"),
            "f.csv:2: has 3 columns, the header has 4",
        ),
        (
            "instance_type,zone,usd_per_hour\n".into(),
            "f.csv:1: epoch_s: this column is missing",
        ),
        ("a,b\n1,2\n".into(), "f.csv:1: is in no format"),
        (String::new(), "f.csv: is empty"),
        (
            "instance_type,region,usd_per_hour\nc5.large,us-east-1,-1\n".into(),
            "f.csv:2: usd_per_hour: `-1` is negative",
        ),
        (
            "instance_type,region,interruption_band\nc5.large,us-east-1,7\n".into(),
            "f.csv:2: interruption_band: 7",
        ),
        (
            "{\"SpotPriceHistory\": [\n{\"InstanceType\": 5}]}".into(),
            "f.csv:2: invalid type",
        ),
        ("0,add,a\n5,move,a\n".into(), "f.csv:2: change: `move`"),
        ("0,add,a\n5,remove,b\n".into(), "f.csv:2: node: b is not there"),
        ("5,add,a\n0,remove,a\n".into(), "f.csv:2: ms: goes back"),
        (
            "{\"metadata\": {\"gap_seconds\": 0}, \"data\": [1]}".into(),
            "f.csv: metadata.gap_seconds",
        ),
        (
            "{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1, -1]}".into(),
            "f.csv:1: invalid value",
        ),
        (
            "{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1, 4000000000]}".into(),
            "f.csv: data[1]: 4000000000 is more",
        ),
        (
            r#"{"SpotPriceHistory": [{"AvailabilityZone": "us-east-1a", "InstanceType": "\u001b[31m", "ProductDescription":
               "Linux/UNIX", "SpotPrice": "1", "Timestamp": "2026-11-03T08:46:18Z"}]}"#.into(),
            "f.csv: SpotPriceHistory[0].AvailabilityZone: `[31m` is no name",
        ),
    ];
    for (text, wanted) in table {
        let error = read(&text).unwrap_err();
        assert!(error.to_string().starts_with(wanted), "{error}\nnot {wanted}");
        assert!(!error.fix.is_empty());
    }
}

#[test]
fn packed_files_are_unpacked() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed
        .write_all(b"instance_type,zone,epoch_s,usd_per_hour\nc5.large,use1-az1,1704067200,0.04\n")
        .unwrap();
    let mut bytes = packed.finish().unwrap();
    let (format, _) = parse("f", bytes.clone(), &ZoneNames::new(), None).unwrap();
    assert_eq!(format, Format::Prices);
    bytes.truncate(bytes.len() / 2);
    let error = parse("f", bytes, &ZoneNames::new(), None).unwrap_err();
    assert!(error.problem.starts_with("cannot be unpacked"), "{error}");
}

#[test]
fn dates_in_names() {
    let table = [
        ("a/2019-01-01/ec2-on-demand-2025-03.csv.gz", Some(1_740_787_200)),
        ("on-demand-2025-03-02.csv", Some(1_740_873_600)),
        ("on-demand.csv", None),
        ("list-2025-13.csv", None),
    ];
    for (name, second) in table {
        assert_eq!(
            date_in(name),
            second.map(|second: u64| Time(second * 1_000_000)),
            "{name}"
        );
    }
}

proptest! {
    /// Whatever a file holds, it is read or refused with a reason.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0usize..5) {
        let heads: [&[u8]; 5] = [
            b"", b"instance_type,zone,epoch_s,usd_per_hour\n", b"{\"metadata\":", b"0,add,a\n", b"{\"SpotPriceHistory\":[",
        ];
        let mut text = heads[kind].to_vec();
        text.extend(bytes);
        if let Err(error) = parse("f", text, &ZoneNames::new(), None) {
            prop_assert!(!error.problem.is_empty() && !error.fix.is_empty());
        }
    }
}
