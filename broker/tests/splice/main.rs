//! The splice on real sockets: stock peers, peers made of raw bytes, and what must not happen.

mod dials;
mod life;
mod limits;
mod links;
mod raw;
mod relay;
mod rig;
mod role;
mod strangers;
