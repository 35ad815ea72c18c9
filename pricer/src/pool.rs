//! Pools as text, and the region a zone is in.
//!
//! A pool is written `TYPE@ZONE/MARKET`, as `m4.10xlarge@use1-az4/spot`. Zone **ids** mean the same in every account;
//! older recordings have zone names (`us-east-1a`), which do not. A name stands for itself until a map says which id
//! it is: recordings replay well under it, and `eligible::Limits::zone_ids_only` keeps it from real purchases.

use std::collections::BTreeMap;

use rebound_core::types::{Market, Pool};

/// Which zone id each zone name of one account is.
pub type ZoneNames = BTreeMap<String, String>;

/// Longest name of a type or a zone.
const NAME_MAX: usize = 64;
const REGIONS: &str = include_str!("../data/regions.csv");

/// The region of a zone id (`euw1-az2`) or of a zone name (`eu-west-1b`); nothing for what is neither.
pub fn region_of(zone: &str) -> Option<String> {
    if let Some((prefix, _)) = zone.split_once("-az") {
        return regions()
            .find(|(short, _)| *short == prefix)
            .map(|(_, region)| region.to_owned());
    }
    let region = zone.strip_suffix(|c: char| c.is_ascii_lowercase())?;
    regions()
        .any(|(_, known)| known == region)
        .then(|| region.to_owned())
}

/// Every region known here, with the prefix its zone ids have.
pub fn regions() -> impl Iterator<Item = (&'static str, &'static str)> {
    REGIONS.lines().skip(1).filter_map(|line| line.split_once(','))
}

/// Whether `zone` is an id that means the same in every account.
pub fn is_zone_id(zone: &str) -> bool {
    zone.split_once("-az").is_some_and(|(prefix, number)| {
        regions().any(|(short, _)| short == prefix)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The spot pool of a type in a zone, by its id where `names` knows the zone's name.
///
/// # Errors
///
/// A sentence for people, where a name is none or the zone is of no known region.
pub fn spot(instance_type: &str, zone: &str, names: &ZoneNames) -> Result<Pool, String> {
    for name in [instance_type, zone] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
            return Err(format!("`{}` is no name", crate::money::shown(name)));
        }
    }
    let zone_id = names.get(zone).map_or(zone, String::as_str);
    let region = region_of(zone_id)
        .or_else(|| region_of(zone))
        .ok_or_else(|| format!("`{}` is not a zone", crate::money::shown(zone)))?;
    Ok(Pool {
        region,
        zone_id: zone_id.to_owned(),
        instance_type: instance_type.to_owned(),
        market: Market::Spot,
    })
}

/// The same machine, bought on demand.
pub fn on_demand(pool: &Pool) -> Pool {
    Pool {
        market: Market::OnDemand,
        ..pool.clone()
    }
}

/// `m4.10xlarge@use1-az4/spot`.
pub fn text(pool: &Pool) -> String {
    format!(
        "{}@{}/{}",
        pool.instance_type,
        pool.zone_id,
        market_text(pool.market)
    )
}

/// `spot`, `on-demand`, or `none` for machines that are not EC2's.
pub fn market_text(market: Market) -> &'static str {
    match market {
        Market::Spot => "spot",
        Market::OnDemand => "on-demand",
        Market::None => "none",
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text.
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = rest.get(at + before.len()..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

/// Whether one of `patterns` fits the pool's text, with or without its market; with no pattern all do. The region may
/// stand in place of the zone: zone ids do not begin with it.
pub fn chosen(patterns: &[String], pool: &Pool) -> bool {
    let of_region = Pool {
        zone_id: pool.region.clone(),
        ..pool.clone()
    };
    let names = [text(pool), text(&of_region)];
    let one = |pattern: &String| {
        names.iter().any(|whole| {
            let short = whole.split('/').next().unwrap_or_default();
            fits(pattern, whole) || fits(pattern, short)
        })
    };
    patterns.is_empty() || patterns.iter().any(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_their_regions() {
        let table = [
            ("use1-az4", Some("us-east-1")),
            ("us-east-1a", Some("us-east-1")),
            ("apse7-az1", Some("ap-southeast-7")),
            ("us-gov-west-1b", Some("us-gov-west-1")),
            ("mars1-az1", None),
            ("mars-1a", None),
            ("us-east-1", None),
            ("", None),
        ];
        for (zone, region) in table {
            assert_eq!(region_of(zone).as_deref(), region, "{zone}");
        }
        assert!(is_zone_id("use1-az4") && !is_zone_id("us-east-1a") && !is_zone_id("use1-az"));
    }

    #[test]
    fn a_zone_name_becomes_an_id_where_it_is_known() {
        let names = ZoneNames::from([("us-east-1a".to_owned(), "use1-az4".to_owned())]);
        let known = spot("m4.large", "us-east-1a", &names).unwrap();
        assert_eq!(text(&known), "m4.large@use1-az4/spot");
        let other = spot("m4.large", "us-east-1b", &names).unwrap();
        assert_eq!(text(&on_demand(&other)), "m4.large@us-east-1b/on-demand");
        assert!(spot("m4.large", "nowhere", &names).is_err());
    }

    #[test]
    fn patterns_choose_pools() {
        let pool = spot("m4.10xlarge", "us-east-1a", &ZoneNames::new()).unwrap();
        for pattern in [
            "m4.10xlarge@us-east-1*",
            "m4*",
            "*",
            "*@us-east-1a",
            "m4*1a/spot",
            "*east*",
        ] {
            assert!(chosen(&[pattern.to_owned()], &pool), "{pattern}");
        }
        for pattern in ["m4", "*1b", "m4.10xlarge@us-west*", "*/on-demand"] {
            assert!(!chosen(&[pattern.to_owned()], &pool), "{pattern}");
        }
        assert!(chosen(&[], &pool));
    }

    #[test]
    fn patterns_name_zone_ids_by_their_region() {
        let pool = spot("m4.10xlarge", "use1-az4", &ZoneNames::new()).unwrap();
        for (pattern, fits) in [
            ("m4.10xlarge@us-east-1*", true),
            ("*@us-east-1/spot", true),
            ("*@use1-az4", true),
            ("*@us-east-1a", false),
            ("*@us-east-2*", false),
            ("*@us-east-1/on-demand", false),
        ] {
            assert_eq!(chosen(&[pattern.to_owned()], &pool), fits, "{pattern}");
        }
    }
}
