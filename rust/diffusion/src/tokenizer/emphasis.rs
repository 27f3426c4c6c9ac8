//! The emphasis syntax: text to stretches of equal weight.

/// Weight factor of a pair of parentheses without a number.
const EMPHASIS: f64 = 1.1;

/// Deepest nesting that is followed; deeper parentheses are text. Prompts come from outside, and
/// each level costs a stack frame.
const MAX_DEPTH: usize = 256;

// Private-use characters stand for escaped parentheses while the syntax is read.
const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';

/// The stretches of `prompt` with their weights, in order.
pub(super) fn weighted_segments(prompt: &str) -> Vec<(String, f64)> {
    let escaped = prompt.replace("\\(", &OPEN.to_string()).replace("\\)", &CLOSE.to_string());
    let mut segments = Vec::new();
    collect(&escaped, 1.0, 0, &mut segments);
    for (text, _) in &mut segments {
        *text = text.replace(OPEN, "(").replace(CLOSE, ")");
    }
    segments
}

fn collect(text: &str, weight: f64, depth: usize, segments: &mut Vec<(String, f64)>) {
    for item in top_level_items(text) {
        let inner = item.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
        match inner {
            Some(inner) if depth < MAX_DEPTH => match explicit_weight(inner) {
                Some((inner, weight)) => collect(inner, weight, depth + 1, segments),
                None => collect(inner, weight * EMPHASIS, depth + 1, segments),
            },
            _ => segments.push((item.to_string(), weight)),
        }
    }
}

/// `text:number` as its two parts; the text must not be empty.
fn explicit_weight(inner: &str) -> Option<(&str, f64)> {
    let (text, number) = inner.rsplit_once(':')?;
    if text.is_empty() {
        return None;
    }
    Some((text, number.trim().parse().ok()?))
}

/// Cuts `text` into parenthesised groups and what is between them. A group that never closes takes
/// the rest of the text; a closing parenthesis without an opening one keeps later groups from being
/// recognised, since the depth never returns to where it started.
fn top_level_items(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut start = 0;
    let mut depth = 0i64;
    let mut push = |range: std::ops::Range<usize>| {
        if let Some(item) = text.get(range).filter(|item| !item.is_empty()) {
            items.push(item);
        }
    };
    for (at, character) in text.char_indices() {
        match character {
            '(' => {
                if depth == 0 {
                    push(start..at);
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    push(start..at + 1);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    push(start..text.len());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_nest_and_numbers_replace() {
        let segments = weighted_segments("(a (nested (deep) one:1.2) end:0.5)");
        let expected = [("a ", 0.5), ("nested ", 1.2), ("deep", 1.2 * 1.1), (" one", 1.2), (" end", 0.5)];
        assert_eq!(segments, expected.map(|(text, weight)| (text.to_string(), weight)));
    }

    #[test]
    fn unbalanced_parentheses_are_text() {
        assert_eq!(weighted_segments("x (y:1.5"), [("x ".to_string(), 1.0), ("(y:1.5".to_string(), 1.0)]);
    }

    #[test]
    fn a_hundred_thousand_parentheses_do_not_overflow_the_stack() {
        let prompt = format!("{}x{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(weighted_segments(&prompt).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_prompt_panics_and_plain_text_is_kept(text in "[a-z ()\\\\:0-9.]{0,40}") {
            let plain = text.replace(['(', ')', '\\'], "");
            let segments = weighted_segments(&plain);
            let joined: String = segments.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(joined, plain);
            weighted_segments(&text);
        }
    }
}
