//! Text that others wrote, made safe for a terminal.

/// `text` without terminal escape sequences, control characters and direction overrides. Names of jobs and
/// workers come from others, and a terminal obeys what it is sent. Line ends and tabs become spaces.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\n' | '\r' | '\t' => out.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// After ESC: a control sequence, a string for the terminal, or a short escape.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_control_sequence(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        _ => {
            while chars.next_if(|c| ('\u{20}'..='\u{2f}').contains(c)).is_some() {}
            chars.next_if(|c| ('\u{30}'..='\u{7e}').contains(c));
        }
    }
}

/// Parameters and intermediates, up to and with the final byte.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
    chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
}

/// Up to and with BEL or ST. One without an end swallows the rest, as a terminal would.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' if chars.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_terminal_gets_no_orders() {
        let table = [
            ("plain Ünïcode 棚", "plain Ünïcode 棚"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("\u{9b}2Jgone", "gone"),
            ("\u{9d}0;title\u{9c}x", "x"),
            ("a\u{1b}(0b\u{1b}cd", "abd"),
            ("two\nlines\tand\rmore", "two lines and more"),
            ("bell\u{7}back\u{8}nul\0", "bellbacknul"),
            ("txt\u{202e}gpj.exe", "txtgpj.exe"),
            ("ends with \u{1b}", "ends with "),
            ("ends in \u{1b}[12", "ends in "),
            ("\u{1b}Punended", ""),
        ];
        for (given, wanted) in table {
            assert_eq!(clean(given), wanted, "{given:?}");
        }
    }
}
