//! Wildcards as IAM has them: `*` is any run of characters, `?` is any one.

#[derive(Debug)]
pub(crate) struct Pattern(String);

impl Pattern {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a == b)
    }

    pub(crate) fn matches_ignoring_case(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a.eq_ignore_ascii_case(&b))
    }
}

/// Goes back to the last `*` only, so it takes at most as many steps as the product of both lengths.
fn matches(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star = None;
    loop {
        let (mut pattern_after, mut text_after) = (pattern.clone(), text.clone());
        match (pattern_after.next(), text_after.next()) {
            (Some('*'), _) => {
                star = Some((pattern_after.clone(), text.clone()));
                pattern = pattern_after;
            }
            (Some(wanted), Some(found)) if wanted == '?' || same(wanted, found) => {
                (pattern, text) = (pattern_after, text_after);
            }
            (None, None) => return true,
            _ => {
                // The star takes one character more.
                let Some((after_star, taken)) = &mut star else { return false };
                if taken.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), taken.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_iam() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "é", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("*.txt", "a.txt.txt", true),
            ("kms:ReEncrypt*", "kms:ReEncryptFrom", true),
            ("kms:ReEncrypt*", "kms:Encrypt", false),
            ("**", "x", true),
            ("x*", "", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert!(!Pattern::new("ABC*").matches("abcd"));
        assert!(Pattern::new("ABC*").matches_ignoring_case("abcd"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let pattern = Pattern::new("*a".repeat(1000));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(5000))));
    }
}
