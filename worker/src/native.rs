//! Functions written in Rust: typed closures made callable by name.

use crate::answer::Answer;
use crate::call_error::CallError;
use crate::context::CallContext;
use crate::params::{Arguments, Params};
use muster_proto::worker::{Method, Param};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A function with its types forgotten: parameters in, the result appended as JSON.
type Run =
    dyn Fn(Params<'_>, &CallContext<'_>, &mut Vec<u8>) -> Result<(), CallError> + Send + Sync;

/// A closure that can be offered as a method: up to eight arguments that serde can read, and a
/// result that is an [`Answer`].
///
/// `Args` is the tuple of its argument types; the compiler finds it.
pub trait Callable<Args: Arguments>: Send + Sync + 'static {
    /// Calls it and appends the result as JSON.
    ///
    /// # Errors
    /// What the function returned as its error.
    fn call(&self, args: Args, out: &mut Vec<u8>) -> Result<(), CallError>;
}

/// The same with the running call ([`CallContext`]) as the first argument.
pub trait ContextCallable<Args: Arguments>: Send + Sync + 'static {
    /// Calls it and appends the result as JSON.
    ///
    /// # Errors
    /// What the function returned as its error.
    fn call(
        &self,
        context: &CallContext<'_>,
        args: Args,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError>;
}

macro_rules! impl_callable {
    ($($A:ident $a:ident),*) => {
        impl<Function, Returned, $($A),*> Callable<($($A,)*)> for Function
        where
            Function: Fn($($A),*) -> Returned + Send + Sync + 'static,
            Returned: Answer,
            ($($A,)*): Arguments,
        {
            fn call(&self, ($($a,)*): ($($A,)*), out: &mut Vec<u8>) -> Result<(), CallError> {
                self($($a),*).write(out)
            }
        }

        impl<Function, Returned, $($A),*> ContextCallable<($($A,)*)> for Function
        where
            Function: Fn(&CallContext<'_>, $($A),*) -> Returned + Send + Sync + 'static,
            Returned: Answer,
            ($($A,)*): Arguments,
        {
            fn call(
                &self,
                context: &CallContext<'_>,
                ($($a,)*): ($($A,)*),
                out: &mut Vec<u8>,
            ) -> Result<(), CallError> {
                self(context, $($a),*).write(out)
            }
        }
    };
}

impl_callable!();
impl_callable!(A a);
impl_callable!(A a, B b);
impl_callable!(A a, B b, C c);
impl_callable!(A a, B b, C c, D d);
impl_callable!(A a, B b, C c, D d, E e);
impl_callable!(A a, B b, C c, D d, E e, F f);
impl_callable!(A a, B b, C c, D d, E e, F f, G g);
impl_callable!(A a, B b, C c, D d, E e, F f, G g, H h);

/// A Rust function on offer.
pub(crate) struct Native {
    pub method: Method,
    /// The parameters' names, for calls by name and for errors.
    names: Vec<String>,
    optional: Vec<bool>,
    run: Box<Run>,
}

impl Native {
    pub fn new<Args: Arguments>(name: String, function: impl Callable<Args>) -> Self {
        Self::erased::<Args>(
            name,
            Box::new(move |params, _, out| function.call(Args::read(params)?, out)),
        )
    }

    pub fn with_context<Args: Arguments>(
        name: String,
        function: impl ContextCallable<Args>,
    ) -> Self {
        Self::erased::<Args>(
            name,
            Box::new(move |params, context, out| function.call(context, Args::read(params)?, out)),
        )
    }

    fn erased<Args: Arguments>(name: String, run: Box<Run>) -> Self {
        let method = Method {
            name,
            params: None,
            doc: String::new(),
            once: false,
            chunks: true,
            shared: false,
        };
        let optional = Args::optional();
        let mut native = Native {
            method,
            names: Vec::new(),
            optional,
            run,
        };
        // Unnamed parameters still show how many there are and which may be left out.
        let names = (1..=native.optional.len())
            .map(|at| format!("arg{at}"))
            .collect();
        native.set_names(names);
        native
    }

    /// Names the parameters.
    ///
    /// # Panics
    /// When there are more or fewer names than parameters: a slip in the program.
    pub fn set_names(&mut self, names: Vec<String>) {
        let (count, method) = (self.optional.len(), &self.method.name);
        assert_eq!(
            names.len(),
            count,
            "{method} has {count} parameters, {} names",
            names.len()
        );
        let params = names.iter().zip(&self.optional);
        self.method.params = Some(
            params
                .map(|(name, &optional)| Param {
                    name: name.clone(),
                    optional,
                })
                .collect(),
        );
        self.names = names;
    }

    /// Runs one call; a panic is an error like any other.
    pub fn call(
        &self,
        params: &str,
        context: &CallContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        self.run(Params::of_call(params, &self.names), context, out)
    }

    /// Runs it for one item of a map chunk.
    pub fn call_item(
        &self,
        item: &str,
        context: &CallContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        self.run(Params::of_item(item, &self.names), context, out)
    }

    fn run(
        &self,
        params: Params<'_>,
        context: &CallContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        let start = out.len();
        // The closure is not used again half-changed: `Fn` closures keep state only behind locks,
        // which know about panics themselves.
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(params, context, out)))
            .unwrap_or_else(|panic| Err(CallError::failed("panic", panic_text(&*panic))));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native")
            .field("method", &self.method.name)
            .finish_non_exhaustive()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelFlag;

    fn call(native: &Native, params: &str) -> Result<String, CallError> {
        let cancel = CancelFlag::default();
        let mut out = b"before".to_vec();
        let result = native.call(params, &CallContext::new("m", &cancel), &mut out);
        let text = String::from_utf8(out).unwrap();
        let written = text.strip_prefix("before").unwrap().to_owned();
        assert!(
            result.is_ok() || written.is_empty(),
            "an error leaves nothing behind"
        );
        result.map(|()| written)
    }

    #[test]
    fn a_closure_is_called_by_position_and_by_name() {
        let mut multiply = Native::new("multiply".into(), |x: i64, y: i64| x * y);
        multiply.set_names(vec!["x".into(), "y".into()]);
        assert_eq!(call(&multiply, "[5,3]").unwrap(), "15");
        assert_eq!(call(&multiply, r#"{"y":3,"x":5}"#).unwrap(), "15");
        assert!(matches!(
            call(&multiply, "[5]"),
            Err(CallError::InvalidParams(_))
        ));
    }

    #[test]
    fn results_and_errors_of_a_fallible_function_are_told_apart() {
        let parse = Native::new("parse".into(), |text: String| text.parse::<i32>());
        assert_eq!(call(&parse, r#"["7"]"#).unwrap(), "7");
        let error = call(&parse, r#"["x"]"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ParseIntError: invalid digit found in string"
        );
    }

    #[test]
    fn a_panic_is_an_error_and_the_next_call_works() {
        let divide = Native::new("divide".into(), |x: i64, y: i64| x / y);
        let error = call(&divide, "[1,0]").unwrap_err();
        assert_eq!(
            error,
            CallError::failed("panic", "attempt to divide by zero")
        );
        assert_eq!(call(&divide, "[6,3]").unwrap(), "2");
    }

    #[test]
    fn optional_parameters_are_registered_as_such() {
        let hello = Native::new("hello".into(), |name: Option<String>, _n: i64| name);
        let params = hello.method.params.as_ref().unwrap();
        assert_eq!((params[0].optional, params[1].optional), (true, false));
    }

    #[test]
    fn a_function_sees_its_call() {
        let name = Native::with_context("who".into(), |call: &CallContext<'_>, _n: i64| {
            call.method().to_owned()
        });
        assert_eq!(call(&name, "[1]").unwrap(), "\"m\"");
    }
}
