//! `%…%` fields of a file name prefix.

use chrono::{DateTime, Datelike, Local, Timelike};

/// What the fields stand for.
#[derive(Debug, Clone)]
pub struct PrefixFields {
    /// `%width%`, pixels.
    pub width: usize,
    /// `%height%`, pixels.
    pub height: usize,
    /// `%batch_num%`.
    pub batch_index: usize,
    /// `%year%` … `%second%` and `%date:…%`.
    pub now: DateTime<Local>,
}

impl PrefixFields {
    /// Fills a prefix in. Unknown fields stay as they are.
    pub fn fill(&self, prefix: &str) -> String {
        let mut out = String::with_capacity(prefix.len());
        let mut rest = prefix;
        while let Some(start) = rest.find('%') {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let inner = from.get(1..).unwrap_or("");
            let field = inner.find('%').and_then(|end| inner.get(..end));
            match field.and_then(|name| Some((name, self.value(name)?))) {
                Some((name, value)) => {
                    out.push_str(&value);
                    rest = inner.get(name.len() + 1..).unwrap_or("");
                }
                None => {
                    out.push('%');
                    rest = inner;
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn value(&self, field: &str) -> Option<String> {
        let now = &self.now;
        if let Some(format) = field.strip_prefix("date:") {
            return Some(self.date(format));
        }
        Some(match field {
            "width" => self.width.to_string(),
            "height" => self.height.to_string(),
            "batch_num" => self.batch_index.to_string(),
            "year" => now.year().to_string(),
            "month" => format!("{:02}", now.month()),
            "day" => format!("{:02}", now.day()),
            "hour" => format!("{:02}", now.hour()),
            "minute" => format!("{:02}", now.minute()),
            "second" => format!("{:02}", now.second()),
            _ => return None,
        })
    }

    /// The tokens of the frontend's date fields: `yyyy yy MM M dd d hh h mm m ss s`. A colon cannot be in a file
    /// name everywhere, so it becomes a hyphen.
    fn date(&self, format: &str) -> String {
        let now = &self.now;
        let tokens: [(&str, String); 12] = [
            ("yyyy", now.year().to_string()),
            ("yy", format!("{:02}", now.year().rem_euclid(100))),
            ("MM", format!("{:02}", now.month())),
            ("M", now.month().to_string()),
            ("dd", format!("{:02}", now.day())),
            ("d", now.day().to_string()),
            ("hh", format!("{:02}", now.hour())),
            ("h", now.hour().to_string()),
            ("mm", format!("{:02}", now.minute())),
            ("m", now.minute().to_string()),
            ("ss", format!("{:02}", now.second())),
            ("s", now.second().to_string()),
        ];
        let mut out = String::new();
        let mut rest = format;
        while let Some(next) = rest.chars().next() {
            match tokens.iter().find(|(token, _)| rest.starts_with(token)) {
                Some((token, value)) => {
                    out.push_str(value);
                    rest = rest.strip_prefix(token).unwrap_or("");
                }
                None => {
                    out.push(if next == ':' { '-' } else { next });
                    rest = rest.get(next.len_utf8()..).unwrap_or("");
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn fields() -> PrefixFields {
        let now = Local.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap();
        PrefixFields { width: 640, height: 480, batch_index: 3, now }
    }

    #[test]
    fn fields_are_filled_in() {
        for (prefix, expected) in [
            ("a", "a"),
            ("%width%x%height%", "640x480"),
            ("%year%-%month%-%day%/%hour%%minute%%second%", "2026-03-04/050607"),
            ("%date:yyyy-MM-dd%/x", "2026-03-04/x"),
            ("%date:yy_M_d hh:mm:ss%", "26_3_4 05-06-07"),
            ("b%batch_num%", "b3"),
            ("100%", "100%"),
            ("%unknown%width%", "%unknown640"),
            ("%%width%", "%640"),
        ] {
            assert_eq!(fields().fill(prefix), expected, "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn any_prefix_is_filled_without_panic(prefix in "[%a-z:é]{0,30}") {
            fields().fill(&prefix);
        }
    }
}
