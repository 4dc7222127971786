//! A call's parameters into typed arguments.
//!
//! The JSON is first split into one raw span per parameter, in the order of the function's
//! parameters, whether the caller gave an array or an object. Each span then becomes its argument,
//! so an error names the parameter it is about.

use crate::call_error::{CallError, json_reason};
use muster_proto::json::plain_items;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The most parameters a typed function can have.
pub(crate) const PARAMS_MAX: usize = 8;

/// The parameters of one call, as they came.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    json: &'a str,
    is_item: bool,
    names: &'a [String],
}

impl<'a> Params<'a> {
    /// `json`: an array, an object, or nothing. `names`: what the function's parameters are called,
    /// in order, as far as they were registered.
    pub(crate) fn of_call(json: &'a str, names: &'a [String]) -> Self {
        Params {
            json,
            is_item: false,
            names,
        }
    }

    /// `json` is the one argument: an item of a map chunk.
    pub(crate) fn of_item(json: &'a str, names: &'a [String]) -> Self {
        Params {
            json,
            is_item: true,
            names,
        }
    }

    /// The JSON as the caller wrote it: an array, an object or nothing; of a chunk's item the one
    /// argument.
    pub fn json(&self) -> &'a str {
        self.json
    }

    fn label(&self, at: usize) -> String {
        match self.names.get(at) {
            Some(name) => format!("parameter {} ({name})", at + 1),
            None => format!("parameter {}", at + 1),
        }
    }

    /// One span per parameter of a function that has `count`; `None` for those left out.
    fn split(&self, count: usize) -> Result<Spans<'a>, CallError> {
        let mut spans = Spans::default();
        let json = self.json.trim_start();
        if self.is_item {
            spans.raw[0] = Some(self.json);
            spans.given = 1;
        } else if !json.is_empty() && plain_items(json, |raw| spans.push(raw)).is_none() {
            spans = Spans::default();
            let mut deserializer = serde_json::Deserializer::from_str(json);
            let visitor = SpansVisitor {
                spans: &mut spans,
                names: self.names,
            };
            let read = if json.starts_with('{') {
                deserializer.deserialize_map(visitor)
            } else {
                deserializer.deserialize_seq(visitor)
            };
            read.map_err(|error| CallError::InvalidParams(json_reason(&error)))?;
        }
        if let Some(name) = spans.unknown.take() {
            return Err(CallError::InvalidParams(format!(
                "there is no parameter {name}"
            )));
        }
        if spans.given > count {
            let takes = match count {
                0 => "no parameters".to_owned(),
                1 => "1 parameter".to_owned(),
                _ => format!("{count} parameters"),
            };
            let reason = format!("the function takes {takes}, {} given", spans.given);
            return Err(CallError::InvalidParams(reason));
        }
        Ok(spans)
    }

    fn argument<T: DeserializeOwned>(&self, spans: &Spans<'a>, at: usize) -> Result<T, CallError> {
        let read = match spans.raw[at] {
            Some(raw) => serde_json::from_str(raw),
            None => T::deserialize(Absent),
        };
        read.map_err(|error| {
            CallError::InvalidParams(format!("{}: {}", self.label(at), json_reason(&error)))
        })
    }
}

/// Arguments that can be read from a call's parameters: tuples of up to eight types.
pub trait Arguments: Sized {
    /// Whether each may be left out, in order.
    fn optional() -> Vec<bool>;

    /// Reads them.
    ///
    /// # Errors
    /// [`CallError::InvalidParams`], naming the parameter that is missing, surplus or of a wrong
    /// type.
    fn read(params: Params<'_>) -> Result<Self, CallError>;
}

macro_rules! impl_arguments {
    ($count:literal $($A:ident $at:literal),*) => {
        impl<$($A: DeserializeOwned),*> Arguments for ($($A,)*) {
            fn optional() -> Vec<bool> {
                vec![$($A::deserialize(Absent).is_ok()),*]
            }

            fn read(params: Params<'_>) -> Result<Self, CallError> {
                let _spans = params.split($count)?;
                Ok(($(params.argument::<$A>(&_spans, $at)?,)*))
            }
        }
    };
}

impl_arguments!(0);
impl_arguments!(1 A 0);
impl_arguments!(2 A 0, B 1);
impl_arguments!(3 A 0, B 1, C 2);
impl_arguments!(4 A 0, B 1, C 2, D 3);
impl_arguments!(5 A 0, B 1, C 2, D 3, E 4);
impl_arguments!(6 A 0, B 1, C 2, D 3, E 4, F 5);
impl_arguments!(7 A 0, B 1, C 2, D 3, E 4, F 5, G 6);
impl_arguments!(8 A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

#[derive(Default)]
struct Spans<'a> {
    raw: [Option<&'a str>; PARAMS_MAX],
    given: usize,
    unknown: Option<String>,
}

impl<'a> Spans<'a> {
    fn push(&mut self, raw: &'a str) {
        if let Some(place) = self.raw.get_mut(self.given) {
            *place = Some(raw);
        }
        self.given += 1;
    }
}

struct SpansVisitor<'s, 'a> {
    spans: &'s mut Spans<'a>,
    names: &'s [String],
}

impl<'a> Visitor<'a> for SpansVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object of parameters")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            self.spans.push(raw.get());
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let raw = map.next_value::<&RawValue>()?;
            match self.names.iter().position(|known| *known == name) {
                Some(at) if at < PARAMS_MAX => {
                    self.spans.raw[at] = Some(raw.get());
                }
                _ => self.spans.unknown = Some(name),
            }
        }
        Ok(())
    }
}

/// Stands for a parameter that was left out: an `Option` reads it as `None`, nothing else can.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["x".into(), "y".into()]
    }

    fn read<T: Arguments>(json: &str) -> Result<T, String> {
        T::read(Params::of_call(json, &names())).map_err(|error| error.to_string())
    }

    #[test]
    fn an_array_and_an_object_give_the_same_arguments() {
        assert_eq!(read::<(i64, i64)>("[5, 3]"), Ok((5, 3)));
        assert_eq!(read::<(i64, i64)>(r#"{"y": 3, "x": 5}"#), Ok((5, 3)));
        assert_eq!(
            read::<(i64, String)>(r#" [5,"\u00fc"]"#),
            Ok((5, "ü".into()))
        );
        assert_eq!(read::<()>(""), Ok(()));
        assert_eq!(read::<()>("[]"), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong = read::<(i64, i64)>(r#"[5,"a"]"#).unwrap_err();
        assert_eq!(
            wrong,
            "parameter 2 (y): invalid type: string \"a\", expected i64"
        );
        assert_eq!(
            read::<(i64, i64)>("[5]").unwrap_err(),
            "parameter 2 (y): missing"
        );
        assert_eq!(
            read::<(i64, i64)>("[5,3,1]").unwrap_err(),
            "the function takes 2 parameters, 3 given"
        );
        let many = format!("[{}1]", "1,".repeat(20));
        assert_eq!(
            read::<()>(&many).unwrap_err(),
            "the function takes no parameters, 21 given"
        );
        assert_eq!(
            read::<(i64,)>(r#"{"z":1}"#).unwrap_err(),
            "there is no parameter z"
        );
        let unnamed = <(i64,)>::read(Params::of_call("[null]", &[])).unwrap_err();
        assert_eq!(
            unnamed.to_string(),
            "parameter 1: invalid type: null, expected i64"
        );
    }

    #[test]
    fn an_option_may_be_left_out_and_nothing_else() {
        assert_eq!(read::<(i64, Option<i64>)>("[5]"), Ok((5, None)));
        assert_eq!(read::<(i64, Option<i64>)>("[5,null]"), Ok((5, None)));
        assert_eq!(
            read::<(i64, Option<i64>)>(r#"{"x":5,"y":3}"#),
            Ok((5, Some(3)))
        );
        assert_eq!(
            <(Option<i64>, serde_json::Value)>::optional(),
            [true, false]
        );
        assert!(read::<(serde_json::Value,)>("[]").is_err());
    }

    #[test]
    fn an_item_is_one_argument_whatever_it_is() {
        let names = names();
        let item = Params::of_item("[1,2]", &names);
        assert_eq!(<(Vec<i64>,)>::read(item), Ok((vec![1, 2],)));
        assert!(<(i64, i64)>::read(item).is_err());
    }
}
