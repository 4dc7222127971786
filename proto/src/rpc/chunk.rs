//! The items of a map chunk: a JSON array, or numbers packed as an attachment.

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use std::fmt::Write as _;

/// `{"$array": {"$frame": 0}, "dtype": "<i8", "shape": [3]}`: packed items, in `params` or `result`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    #[serde(rename = "$array")]
    source: Source,
    dtype: Dtype,
    shape: (usize,),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    #[serde(rename = "$frame")]
    frame: usize,
}

#[derive(Deserialize)]
enum Dtype {
    #[serde(rename = "<i8")]
    Int64,
    #[serde(rename = "<f8")]
    Float64,
}

/// How many items `params` says it holds; whether the attachment holds them is for the worker to
/// see.
///
/// # Errors
/// When it is neither an array nor packed items.
pub fn chunk_items(params: &str) -> serde_json::Result<usize> {
    if params.starts_with('{') {
        return serde_json::from_str::<Packed>(params).map(|packed| packed.shape.0);
    }
    serde_json::from_str::<Vec<IgnoredAny>>(params).map(|items| items.len())
}

/// Packed items as the JSON array that stands for them; `None` when `params` is no object, so that
/// they came as one.
///
/// # Errors
/// When the object is none of packed items, or the attachments do not hold them.
pub fn unpack_items<A: AsRef<[u8]>>(
    params: &str,
    attachments: &[A],
) -> serde_json::Result<Option<String>> {
    if !params.starts_with('{') {
        return Ok(None);
    }
    let Packed {
        source,
        dtype,
        shape: (count,),
    } = serde_json::from_str(params)?;
    let (0, [content]) = (source.frame, attachments) else {
        let what = "packed items are one attachment, the first";
        return Err(serde_json::Error::custom(what));
    };
    let (numbers, rest) = content.as_ref().as_chunks::<8>();
    if numbers.len() != count || !rest.is_empty() {
        let bytes = content.as_ref().len();
        let what = format!("{count} packed items are not {bytes} bytes");
        return Err(serde_json::Error::custom(what));
    }
    let mut text = String::with_capacity(8 * count + 2);
    text.push('[');
    for (at, &number) in numbers.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let written = match dtype {
            Dtype::Int64 => write!(text, "{}", i64::from_le_bytes(number)),
            Dtype::Float64 => match f64::from_le_bytes(number) {
                float if float.is_finite() => write!(text, "{float:?}"),
                float => return Err(serde_json::Error::custom(format!("{float} is no item"))),
            },
        };
        written.expect("text takes all there is");
    }
    text.push(']');
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGERS: &str = r#"{"$array":{"$frame":0},"dtype":"<i8","shape":[2]}"#;
    const FLOATS: &str = r#"{"$array":{"$frame":0},"dtype":"<f8","shape":[2]}"#;

    fn bytes<const N: usize>(numbers: [[u8; 8]; N]) -> [Vec<u8>; 1] {
        [numbers.concat()]
    }

    #[test]
    fn items_are_counted_in_both_forms() {
        assert_eq!(chunk_items("[1,[2,3],{}]").unwrap(), 3);
        assert_eq!(chunk_items("[]").unwrap(), 0);
        assert_eq!(chunk_items(INTEGERS).unwrap(), 2);
        for other in [
            "{}",
            r#"{"x":1}"#,
            r#"{"$array":{"$frame":0},"dtype":"<i4","shape":[2]}"#,
            r#"{"$array":{"$frame":0},"dtype":"<i8","shape":[2,2]}"#,
            r#"{"$array":{"$frame":0},"dtype":"<i8","shape":[-1]}"#,
        ] {
            assert!(chunk_items(other).is_err(), "{other}");
        }
    }

    #[test]
    fn packed_items_read_as_the_array_they_stand_for() {
        assert_eq!(unpack_items("[1,2]", &[] as &[Vec<u8>]).unwrap(), None);
        let integers = bytes([i64::MIN, 7].map(i64::to_le_bytes));
        let text = unpack_items(INTEGERS, &integers).unwrap();
        assert_eq!(text.as_deref(), Some("[-9223372036854775808,7]"));
        let floats = bytes([0.1, -1e300].map(f64::to_le_bytes));
        let text = unpack_items(FLOATS, &floats).unwrap().unwrap();
        assert_eq!(
            serde_json::from_str::<[f64; 2]>(&text).unwrap(),
            [0.1, -1e300]
        );
    }

    #[test]
    fn what_is_not_there_whole_is_refused() {
        let short = bytes([[0; 8]]);
        assert!(unpack_items(INTEGERS, &short).is_err());
        assert!(unpack_items(INTEGERS, &[vec![0; 17]]).is_err());
        assert!(unpack_items(INTEGERS, &[] as &[Vec<u8>]).is_err());
        assert!(unpack_items(INTEGERS, &[vec![0; 16], vec![]]).is_err());
        let infinite = bytes([1.0, f64::INFINITY].map(f64::to_le_bytes));
        assert!(unpack_items(FLOATS, &infinite).is_err());
        assert!(unpack_items(r#"{"x":1}"#, &short).is_err());
    }
}
