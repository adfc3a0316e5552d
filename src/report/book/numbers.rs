//! Numbers, times and verdicts as people read them; the page and the table share them.

use super::super::axes::superscript;
use super::super::html::grouped;
use super::super::record::{Record, Row};

/// What a row says about the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The book's value lies within our spread or the slack.
    Agrees,
    /// It does not.
    Differs,
    /// It does not, and our run was shorter than the book's.
    DiffersShortened,
    /// The data was drawn by a program: there is nothing to compare.
    Synthetic,
    /// The book gives no value.
    NoBook,
    /// We have no finite value.
    NotMeasured,
}

impl Verdict {
    pub fn of(record: &Record, row: &Row) -> Self {
        match row.agrees() {
            _ if !row.mean().is_finite() => Self::NotMeasured,
            None => Self::NoBook,
            Some(_) if record.synthetic => Self::Synthetic,
            Some(true) => Self::Agrees,
            Some(false) if shortened(record).is_some() => Self::DiffersShortened,
            Some(false) => Self::Differs,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::DiffersShortened => "differs (shortened run)",
            Self::Synthetic => "not comparable (synthetic data)",
            Self::NoBook => "no value in the book",
            Self::NotMeasured => "not measured",
        }
    }
}

/// How many rows of records have each verdict that compares.
#[derive(Default)]
pub(super) struct Counts {
    pub agree: usize,
    pub differ: usize,
    pub shortened: usize,
    pub synthetic: usize,
}

impl Counts {
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut counts = Self::default();
        for record in records {
            for row in &record.rows {
                match Verdict::of(record, row) {
                    Verdict::Agrees => counts.agree += 1,
                    Verdict::Differs => counts.differ += 1,
                    Verdict::DiffersShortened => counts.shortened += 1,
                    Verdict::Synthetic => counts.synthetic += 1,
                    Verdict::NoBook | Verdict::NotMeasured => {}
                }
            }
        }
        counts
    }

    /// Rows that stand beside a value of the book's and can be compared with it.
    pub fn compared(&self) -> usize {
        self.agree + self.differ + self.shortened
    }

    /// "3 of 4 agree", or why nothing can be said.
    pub fn words(&self) -> String {
        match (self.compared(), self.synthetic) {
            (0, 0) => "—".into(),
            (0, _) => "synthetic data".into(),
            (n, _) => format!("{} of {n} agree", self.agree),
        }
    }
}

/// "5 of 60 epochs" for a run shorter than the book's.
pub(super) fn shortened(record: &Record) -> Option<String> {
    match (record.epochs, record.book_epochs) {
        (Some(ours), Some(book)) if ours < book => Some(format!("{ours} of {book} epochs")),
        _ => None,
    }
}

/// The book's value with its unit, with the digits that the book gives.
pub(super) fn book_value(row: &Row) -> String {
    let Some(value) = row.book.filter(|v| v.is_finite()) else {
        return "—".into();
    };
    let text = if row.unit == "%" && (0.01..1e4).contains(&value.abs()) {
        format!("{value}")
    } else {
        significant(value, 4)
    };
    with_unit(text, &row.unit)
}

/// Our mean ± standard deviation with its unit.
pub(super) fn our_value(row: &Row) -> String {
    let mean = row.mean();
    if row.ours.is_empty() {
        return "—".into();
    }
    if !mean.is_finite() {
        return "not finite".into();
    }
    if row.ours.len() == 1 {
        return with_unit(one_value(mean, &row.unit), &row.unit);
    }
    let deviation = row.deviation();
    let plain = (1e-4..1e7).contains(&deviation) && (1e-4..1e7).contains(&mean.abs());
    let text = match row.unit.as_str() {
        "%" => format!("{mean:.2} ± {deviation:.2}"),
        // Two digits of the deviation, and the mean to the same place.
        _ if plain => {
            let decimals = (1 - deviation.log10().floor() as i32).max(0) as usize;
            format!("{mean:.decimals$} ± {deviation:.decimals$}").replace('-', "−")
        }
        _ => format!("{} ± {}", significant(mean, 4), significant(deviation, 2)),
    };
    with_unit(text, &row.unit)
}

/// A measured value without its unit.
pub(super) fn one_value(value: f64, unit: &str) -> String {
    match unit {
        _ if !value.is_finite() => "not finite".into(),
        "%" => format!("{value:.2}"),
        _ => significant(value, 4),
    }
}

fn with_unit(text: String, unit: &str) -> String {
    if unit.is_empty() {
        return text;
    }
    format!("{text}\u{a0}{unit}")
}

/// A number with so many digits that mean something, and no zeros behind the point that
/// mean nothing.
fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let size = value.abs();
    let exponent = size.log10().floor() as i32;
    if !(1e-4..1e7).contains(&size) {
        let front = value / 10f64.powi(exponent);
        let after = (digits - 1) as usize;
        return format!(
            "{}·10{}",
            trimmed(&format!("{front:.after$}")),
            superscript(exponent)
        );
    }
    if value.fract() == 0.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", grouped(size as usize));
    }
    let decimals = (digits - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}"))
}

fn trimmed(number: &str) -> String {
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    number.replace('-', "−")
}

/// How many values a row has, and of what if not of seeds: `3`, `5 networks`.
pub(super) fn count(row: &Row) -> String {
    match row.each.as_str() {
        "" => row.ours.len().to_string(),
        each => format!("{} {each}s", row.ours.len()),
    }
}

/// A time for people.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "not measured".into();
    }
    if seconds < 100.0 {
        return format!("{seconds:.1}\u{a0}s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    if hours > 0 {
        format!("{hours}\u{a0}h {minutes:02}\u{a0}min")
    } else {
        format!("{minutes}\u{a0}min {:02}\u{a0}s", whole % 60)
    }
}

/// The seeds as a list.
pub(super) fn seeds(record: &Record) -> String {
    let all: Vec<String> = record.seeds.iter().map(u64::to_string).collect();
    if all.is_empty() {
        return "nothing is random".into();
    }
    all.join(", ")
}

/// "30 (book: 60)".
pub(super) fn epochs(record: &Record) -> String {
    match (record.epochs, record.book_epochs) {
        (None, None) => "—".into(),
        (Some(ours), None) => ours.to_string(),
        (None, Some(book)) => format!("— / {book}"),
        (Some(ours), Some(book)) => format!("{ours} / {book}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(book: f64, ours: &[f64], unit: &str) -> Row {
        Row {
            book: Some(book),
            ours: ours.to_vec(),
            unit: unit.into(),
            slack: 0.3,
            ..Row::default()
        }
    }

    #[test]
    fn what_is_counted_is_said() {
        let mut row = row(1.0, &[0.5; 5], "%");
        assert_eq!(count(&row), "5");
        row.each = "network".into();
        assert_eq!(count(&row), "5 networks");
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        for (value, text) in [
            (0.0, "0"),
            (0.0042, "0.0042"),
            (0.82345678, "0.8235"),
            (-12.5, "−12.5"),
            (50_000.0, "50,000"),
            (123456.789, "123457"),
            (3.14159e-7, "3.142·10⁻⁷"),
            (-2e12, "−2·10¹²"),
        ] {
            assert_eq!(significant(value, 4), text);
        }
        assert_eq!(book_value(&row(98.4, &[], "%")), "98.4\u{a0}%");
        assert_eq!(our_value(&row(0.0, &[98.4], "%")), "98.40\u{a0}%");
        assert_eq!(
            our_value(&row(0.0, &[95.0, 96.0], "%")),
            "95.50 ± 0.71\u{a0}%"
        );
        assert_eq!(
            our_value(&row(0.0, &[0.0311, 0.0298], "")),
            "0.03045 ± 0.00092"
        );
        assert_eq!(our_value(&row(0.0, &[-7.0, -7.0], "")), "−7 ± 0");
        assert_eq!(our_value(&row(0.0, &[1.0, f64::NAN], "")), "not finite");
        assert_eq!(our_value(&row(0.0, &[], "")), "—");
        assert_eq!(duration(7.04), "7.0\u{a0}s");
        assert_eq!(duration(3725.0), "1\u{a0}h 02\u{a0}min");
        assert_eq!(duration(185.4), "3\u{a0}min 05\u{a0}s");
        assert_eq!(duration(f64::NAN), "not measured");
    }

    #[test]
    fn a_verdict_is_given_only_where_one_can_be() {
        let mut record = Record::default();
        let (near, far) = (row(95.0, &[95.1], "%"), row(95.0, &[90.0], "%"));
        assert_eq!(Verdict::of(&record, &near), Verdict::Agrees);
        assert_eq!(Verdict::of(&record, &far), Verdict::Differs);
        (record.epochs, record.book_epochs) = (Some(5), Some(30));
        assert_eq!(Verdict::of(&record, &near), Verdict::Agrees);
        assert_eq!(Verdict::of(&record, &far), Verdict::DiffersShortened);
        record.synthetic = true;
        assert_eq!(Verdict::of(&record, &near), Verdict::Synthetic);
        let none = Row {
            book: None,
            ..near.clone()
        };
        assert_eq!(Verdict::of(&record, &none), Verdict::NoBook);
        let lost = row(95.0, &[f64::NAN], "%");
        assert_eq!(Verdict::of(&record, &lost), Verdict::NotMeasured);
    }
}
