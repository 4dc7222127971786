//! What programs that measure share: processes that end with them, the machine, quantiles.

pub mod keeper;
pub mod machine;
pub mod process;
pub mod stats;
