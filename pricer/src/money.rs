//! Dollars as text and as integers. A price is read exactly, never through a float.

use rebound_core::types::MicroUsd;

/// Millionths in a dollar.
pub const DOLLAR: u64 = 1_000_000;
/// Larger amounts are refused when read: nobody sells a machine for a million dollars an hour.
const LARGEST: i64 = 1_000_000_000_000;

/// Reads a decimal number of dollars into millionths; more digits than six are rounded. Negative amounts are read as
/// such, so that whoever uses them can say what is wrong.
///
/// # Errors
///
/// A sentence for people, where `text` is not a plain decimal number or too large.
pub fn parse_micros(text: &str) -> Result<i64, String> {
    let bare = text.trim();
    let (negative, digits) = match bare.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, bare),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(format!("`{}` is not a number of dollars", shown(text)));
    }
    let mut micros: i64 = 0;
    for digit in whole.bytes() {
        micros = micros.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    let mut places = fraction.bytes().map(|digit| i64::from(digit - b'0'));
    for _ in 0..6 {
        micros = micros
            .saturating_mul(10)
            .saturating_add(places.next().unwrap_or(0));
    }
    if places.next().unwrap_or(0) >= 5 {
        micros = micros.saturating_add(1);
    }
    if micros > LARGEST {
        return Err(format!("`{}` is more than a million dollars", shown(text)));
    }
    Ok(if negative { -micros } else { micros })
}

/// Reads an amount above zero.
///
/// # Errors
///
/// A sentence for people.
pub fn parse_usd(text: &str) -> Result<MicroUsd, String> {
    match parse_micros(text)? {
        0 => Err("0 is no price".into()),
        micros => u64::try_from(micros)
            .map(MicroUsd)
            .map_err(|_| format!("`{}` is negative", shown(text))),
    }
}

/// `amount` in dollars with at least four and at most six decimals, as `0.0312`.
pub fn usd(amount: MicroUsd) -> String {
    let text = format!("{}.{:06}", amount.0 / DOLLAR, amount.0 % DOLLAR);
    let cut = text.strip_suffix("00").unwrap_or(&text);
    cut.to_owned()
}

/// `part` of `whole` in permille, rounded; saturating. 0 where `whole` is 0.
pub fn permille(part: u64, whole: u64) -> u64 {
    ratio(part, 1_000, whole)
}

/// `a` × `b` ÷ `by`, rounded to nearest, without overflow on the way; 0 where `by` is 0.
pub fn ratio(a: u64, b: u64, by: u64) -> u64 {
    if by == 0 {
        return 0;
    }
    let by = u128::from(by);
    let scaled = (u128::from(a) * u128::from(b) + by / 2) / by;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Text of others, cut and without control characters, for messages.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut clean: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST + 1)
        .collect();
    if clean.chars().count() > LONGEST {
        clean = clean.chars().take(LONGEST).collect();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dollars_are_read_exactly() {
        let table = [
            ("0.0312", 31_200),
            ("1", 1_000_000),
            (".5", 500_000),
            ("2.", 2_000_000),
            ("-0.2", -200_000),
            ("0", 0),
            ("0.0000005", 1),
            ("0.0000004", 0),
            ("0.0130000000", 13_000),
        ];
        for (text, micros) in table {
            assert_eq!(parse_micros(text), Ok(micros), "{text}");
        }
        for text in [
            "",
            ".",
            "-",
            "1e3",
            "NaN",
            "0,5",
            "$1",
            "1.2.3",
            "+1",
            "99999999999999999999",
        ] {
            assert!(parse_micros(text).is_err(), "{text}");
        }
        assert!(parse_usd("0.0").is_err());
        assert!(parse_usd("-1").is_err());
    }

    #[test]
    fn amounts_are_shown_short() {
        assert_eq!(usd(MicroUsd(31_200)), "0.0312");
        assert_eq!(usd(MicroUsd(31_205)), "0.031205");
        assert_eq!(usd(MicroUsd(2_000_000)), "2.0000");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in 0u64..1_000_000_000_000) {
            prop_assert_eq!(parse_micros(&usd(MicroUsd(micros))), Ok(micros as i64));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = parse_micros(&text);
            prop_assert!(shown(&text).chars().count() <= 41);
        }
    }
}
