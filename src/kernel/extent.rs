//! How many elements a binding has, said by the constants of a launch: `N * C * H * W`.

/// The value of `text`: numbers and constants with `+`, `*`, `/` (which rounds up) and
/// parentheses. `None` for text that says something else, a constant that is not there or no
/// whole number, a division by 0 or a value beyond 64 bits.
pub(super) fn value(text: &str, constants: &[(&str, f64)]) -> Option<u64> {
    let mut rest = Rest {
        words: words(text),
        constants,
    };
    let value = rest.sum()?;
    rest.words.is_empty().then_some(value)
}

/// The words of `text`, the last one first.
fn words(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut text = text.trim_start();
    while let Some(first) = text.chars().next() {
        let end = match is_name(first) {
            true => text.find(|c| !is_name(c)).unwrap_or(text.len()),
            false => first.len_utf8(),
        };
        let (word, rest) = text.split_at(end);
        words.push(word);
        text = rest.trim_start();
    }
    words.reverse();
    words
}

struct Rest<'a> {
    words: Vec<&'a str>,
    constants: &'a [(&'a str, f64)],
}

impl Rest<'_> {
    fn takes(&mut self, word: &str) -> bool {
        let there = self.words.last() == Some(&word);
        if there {
            self.words.pop();
        }
        there
    }

    fn sum(&mut self) -> Option<u64> {
        let mut sum = self.product()?;
        while self.takes("+") {
            sum = sum.checked_add(self.product()?)?;
        }
        Some(sum)
    }

    fn product(&mut self) -> Option<u64> {
        let mut product = self.factor()?;
        loop {
            if self.takes("*") {
                product = product.checked_mul(self.factor()?)?;
            } else if self.takes("/") {
                let by = self.factor().filter(|by| *by > 0)?;
                product = product.div_ceil(by);
            } else {
                return Some(product);
            }
        }
    }

    fn factor(&mut self) -> Option<u64> {
        if self.takes("(") {
            let sum = self.sum()?;
            return self.takes(")").then_some(sum);
        }
        let word = self.words.pop()?;
        if let Ok(number) = word.parse() {
            return Some(number);
        }
        let (_, value) = *self.constants.iter().find(|(name, _)| *name == word)?;
        let whole = value as u64;
        (whole as f64 == value).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn products_sums_and_divisions_that_round_up() {
        let constants = [
            ("N", 7.0),
            ("FROM_A", 3.0),
            ("B", 2.0),
            ("X", 0.5),
            ("Y", -1.0),
        ];
        let of = |text| value(text, &constants);
        assert_eq!(of("2"), Some(2));
        assert_eq!(of("N * B"), Some(14));
        assert_eq!(of("4 + N * B"), Some(18));
        assert_eq!(of("N * B / 4"), Some(4));
        assert_eq!(of("N * FROM_A / (FROM_A + B)"), Some(5));
        for wrong in [
            "", "N N", "M", "N *", "(N", "N)", "N / 0", "X", "Y", "N - B", "N ** B",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(value("A * A", &[("A", 1e15)]), None);
    }
}
