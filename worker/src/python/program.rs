//! The program of a Python child, and how it gets there.

/// A file of the child's program, with the name of its module in the line before.
macro_rules! part {
    ($name:literal, $file:literal) => {
        concat!("\u{c}", $name, "\n", include_str!($file))
    };
}

/// The program of the child: `boot.py`, and what that makes modules of, each after those it needs.
/// Six files are the Python package's own, whose workers host functions likewise.
pub(super) const HOST: &str = concat!(
    include_str!("host/boot.py"),
    part!("inside", "../../../client/python/src/muster/inside.py"),
    part!("shipped", "../../../client/python/src/muster/shipped.py"),
    part!("packing", "../../../client/python/src/muster/packing.py"),
    part!("shelf", "../../../client/python/src/muster/shelf.py"),
    part!("output", "../../../client/python/src/muster/output.py"),
    part!("settle", "../../../client/python/src/muster/settle.py"),
    part!("channel", "host/channel.py"),
    part!("failure", "host/failure.py"),
    part!("codec", "host/codec.py"),
    part!("loading", "host/loading.py"),
    part!("package", "host/package.py"),
    part!("host", "host/host.py"),
);

/// What the interpreter is started with. The program comes by the pipe: its text would fill the
/// screen of everyone who runs ps.
pub(super) fn bootstrap() -> String {
    let bytes = HOST.len();
    format!(
        "import os;s=b'';[s:=s+os.read(0,{bytes}-len(s)) \
         for _ in iter(lambda:len(s)<{bytes},False)];\
         s,*f=s.decode().split(chr(12));\
         exec(compile(s,'<muster host>/boot.py','exec'),{{'__name__':'boot','files':f}})"
    )
}
