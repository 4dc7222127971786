//! The elements of a JSON array as text, without building values.

/// Walks an array that is known to be valid JSON; on anything else it ends early and never panics.
pub(crate) struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Elements<'a> {
    /// `array` starts with `[`, white space aside.
    pub(crate) fn of(array: &'a str) -> Self {
        let inside = array
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        Elements {
            rest: inside.map_or("", str::trim_start),
        }
    }

    /// Where the first element ends of what stands behind a `[`.
    pub(super) fn first_end(inside: &[u8]) -> usize {
        element_end(inside)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = element_end(self.rest.as_bytes());
        let (element, rest) = self.rest.split_at(end);
        // The comma is one byte; what follows may be white space.
        self.rest = rest.strip_prefix(',').unwrap_or_default();
        if self
            .rest
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_whitespace)
        {
            self.rest = self.rest.trim_start();
        }
        Some(element.trim_end())
    }
}

/// Where the element at the start ends: before the next comma or closing bracket outside
/// brackets and strings.
#[inline]
fn element_end(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b',' if depth == 0 => return at,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            b'"' => {
                at = string_end(bytes, at + 1);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Where the string that began before `at` ends: after its closing quote.
#[inline]
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_cut_at_the_outer_commas_alone() {
        let elements = |text| Elements::of(text).collect::<Vec<_>>();
        assert_eq!(elements("[]"), [""; 0]);
        assert_eq!(elements(" [ ] "), [""; 0]);
        assert_eq!(elements("[1,true, null ]"), ["1", "true", "null"]);
        assert_eq!(
            elements(r#"[{"a":[1,2]},"x,]\"\\",[[],{}] , "é"]"#),
            [r#"{"a":[1,2]}"#, r#""x,]\"\\""#, "[[],{}]", "\"é\""]
        );
    }

    #[test]
    fn garbage_ends_without_a_panic() {
        for text in ["", "x", "[", "]", "[\"", "[\"\\", "[}]", "[,,]", "[\"é\\"] {
            assert!(Elements::of(text).count() <= 3, "{text}");
        }
    }
}
