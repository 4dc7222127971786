//! What anybody can send before a key was asked for: ZMTP, as far as the splice follows it.

use muster_broker::splice::hostile::{follow, greet};

/// A link's first bytes and its frames: the same however the network cuts them.
pub fn splice(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let cut = usize::from(cut).max(1);
    for curve in [false, true] {
        let whole = greet(stream, usize::MAX, curve);
        assert_eq!(greet(stream, cut, curve), whole);
    }
    assert_eq!(follow(stream, cut), follow(stream, usize::MAX));
}
