//! A broker whose clocks are in the test's hands: a small library in front of the C library, built
//! with the compiler that building Muster needs anyway.

use super::Broker;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// How a broker is lied to, from when it starts.
pub struct Shim {
    folder: tempfile::TempDir,
    control: std::fs::File,
}

impl Shim {
    pub fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/shim.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("shim.so"))
            .arg(source)
            .status()
            .expect("a C compiler");
        assert!(built.success(), "the shim is not built");
        let path = folder.path().join("control");
        let control = std::fs::File::create(path).unwrap();
        // Eight bytes for the seconds, sixteen for the name.
        control.set_len(24).unwrap();
        Shim { folder, control }
    }

    pub fn start_broker(&self, args: &[&str]) -> Broker {
        let path = |name| self.folder.path().join(name).display().to_string();
        let starter = [
            "env".into(),
            format!("LD_PRELOAD={}", path("shim.so")),
            format!("SHIM_CONTROL={}", path("control")),
        ];
        Broker::start_by(starter.into(), args)
    }

    /// From now on the wall clock is off by so much.
    pub fn set_wall_off(&self, seconds: i64) {
        self.control
            .write_all_at(&seconds.to_ne_bytes(), 0)
            .unwrap();
    }

    /// From now on the thread of this name panics as soon as it looks at the clock.
    pub fn break_thread(&self, name: &str) {
        self.control.write_all_at(name.as_bytes(), 8).unwrap();
    }
}
