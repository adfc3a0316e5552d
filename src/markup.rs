//! Text for HTML and SVG: made harmless, and numbers for people.

/// `text` for HTML's and XML's text and attributes; characters that XML forbids become
/// spaces.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// XML forbids control characters in any form.
pub(crate) fn clean(words: &str) -> String {
    let harmless = |c| match c {
        '\u{fffe}' | '\u{ffff}' => ' ',
        c if char::is_control(c) => ' ',
        c => c,
    };
    words.chars().map(harmless).collect()
}

/// A number with its thousands apart.
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// At most `most` characters of a name.
pub(crate) fn short(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_string(),
    }
}
