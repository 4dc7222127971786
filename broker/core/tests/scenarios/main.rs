//! Scripted stories: what happens, and every action the core answers with.

mod accounts;
mod answers;
mod bytes;
mod clients;
mod dispatch;
mod fairness;
mod lanes;
mod limits;
mod loss;
mod membership;
mod nest;
mod story;
mod together;
mod watching;
