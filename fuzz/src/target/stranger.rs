//! What anybody can send where no key is asked for, or before it was: ZMTP.

use muster_broker::splice::hostile::{decode, follow, greet, shake};

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
    assert_eq!(shake(stream, cut), shake(stream, usize::MAX));
    assert_eq!(decode(stream, cut), decode(stream, usize::MAX));
}
