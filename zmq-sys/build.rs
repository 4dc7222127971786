//! Builds libzmq 4.3.5 and says how to link it.
//!
//! `zeromq-src` carries the sources and compiles them with `cc`, but gives the platform's features
//! no defines: its library times with the wall clock and sets no TCP keepalive. `cc` takes extra
//! flags from `CXXFLAGS`, so the defines travel there. libsodium (CURVE) comes from
//! `libsodium-sys-stable`, which builds the tarball it carries: nothing is downloaded.
//!
//! Then the few files that `patch` changes are compiled again and take the place of the released
//! ones in the static library, beside ours.

#[path = "patch/mod.rs"]
mod patch;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `configure` would have found on Linux (glibc and musl alike), beyond what `zeromq-src` defines.
const LINUX: &[&str] = &[
    // Timers by CLOCK_MONOTONIC: with gettimeofday a step of the clock hides a dead peer.
    "HAVE_CLOCK_GETTIME",
    // Without these ZMQ_TCP_KEEPALIVE* are accepted and ignored.
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPIDLE",
    "ZMQ_HAVE_TCP_KEEPINTVL",
    // Descriptors are born close-on-exec, so no child keeps a dead parent's links open.
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "HAVE_ACCEPT4",
    // One descriptor for a mailbox instead of two.
    "ZMQ_HAVE_EVENTFD",
    "ZMQ_HAVE_EVENTFD_CLOEXEC",
    // The fork guard, the peer's uid on ipc, private ipc names, interface names in endpoints.
    "HAVE_FORK",
    "ZMQ_HAVE_SO_PEERCRED",
    "HAVE_MKDTEMP",
    "ZMQ_HAVE_IFADDRS",
    // Threads are named (`ZMQbg/IO/0`) in `top -H`.
    "ZMQ_HAVE_PTHREAD_SETNAME_2",
    "ZMQ_CACHELINE_SIZE=64",
];

/// The same for macOS; its clock has a branch of its own in libzmq.
const MACOS: &[&str] = &[
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPINTVL",
    "HAVE_FORK",
    "ZMQ_HAVE_LOCAL_PEERCRED",
    "HAVE_MKDTEMP",
    "ZMQ_HAVE_IFADDRS",
    "ZMQ_CACHELINE_SIZE=64",
];

/// The same for FreeBSD.
const FREEBSD: &[&str] = &[
    "HAVE_CLOCK_GETTIME",
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPIDLE",
    "ZMQ_HAVE_TCP_KEEPINTVL",
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "HAVE_ACCEPT4",
    "HAVE_FORK",
    "ZMQ_HAVE_LOCAL_PEERCRED",
    "HAVE_MKDTEMP",
    "ZMQ_HAVE_IFADDRS",
    "ZMQ_CACHELINE_SIZE=64",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=patch");

    let out = PathBuf::from(required("OUT_DIR"));
    // `zeromq-src` copies nothing over what is there: the next run must find no changed sources.
    let copied = out.join("source");
    if copied.exists() {
        fs::remove_dir_all(&copied).unwrap_or_else(|error| panic!("{}: {error}", copied.display()));
    }
    append_to_cxxflags(platform_defines(&required("CARGO_CFG_TARGET_OS")));
    zeromq_src::Build::new()
        .enable_draft(true)
        .with_libsodium(Some(libsodium()))
        .build();

    // It leaves there what it compiled.
    let sources = copied.join("src");
    patch::apply(&sources).unwrap_or_else(|error| panic!("{error}"));
    replace(&out.join("lib").join("libzmq.a"), compile(&out, &sources));
}

/// Compiles the changed files as `zeromq-src` compiled the released ones.
fn compile(out: &Path, sources: &Path) -> Vec<PathBuf> {
    let target_os = required("CARGO_CFG_TARGET_OS");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++11")
        .warnings(false)
        .include(sources)
        .include(sources.with_file_name("include"))
        // `platform.hpp`, empty.
        .include(out)
        .include(required("DEP_SODIUM_INCLUDE"))
        .out_dir(out.join("patched"))
        .files(
            patch::RECOMPILED
                .iter()
                .chain(patch::COMPILED)
                .map(|name| sources.join(name).with_extension("cpp")),
        );
    let common = [
        "ZMQ_BUILD_DRAFT_API",
        "ZMQ_USE_CV_IMPL_STL11",
        "ZMQ_STATIC",
        "ZMQ_USE_BUILTIN_SHA1",
        "ZMQ_HAVE_WS",
        "ZMQ_USE_LIBSODIUM",
        "ZMQ_HAVE_CURVE",
        "ZMQ_POLL_BASED_ON_POLL",
        "ZMQ_HAVE_IPC",
        "HAVE_STRNLEN",
        "ZMQ_HAVE_UIO",
        "ZMQ_HAVE_STRUCT_SOCKADDR_UN",
    ];
    let own: &[&str] = match target_os.as_str() {
        "linux" => &["ZMQ_HAVE_LINUX", "ZMQ_IOTHREAD_POLLER_USE_EPOLL"],
        _ => &["ZMQ_IOTHREAD_POLLER_USE_KQUEUE"],
    };
    // `ZMQ_HAVE_STRLCPY` is left out: none of these files copies strings.
    for define in common.iter().chain(own) {
        build.define(define, "1");
    }
    build.compile_intermediates()
}

/// Puts the objects in the place of those of the same source.
fn replace(library: &Path, objects: Vec<PathBuf>) {
    let archiver = || {
        let found = cc::Build::new().get_archiver();
        let mut command = Command::new(found.get_program());
        command.envs(
            found
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
    };
    let listed = run(archiver().arg("t").arg(library));
    let members: Vec<&str> = listed
        .lines()
        .filter(|member| {
            let source = member.trim_end_matches(".o").rsplit('-').next();
            source.is_some_and(|source| patch::RECOMPILED.contains(&source))
        })
        .collect();
    assert_eq!(
        members.len(),
        patch::RECOMPILED.len(),
        "{} has other members than expected: {members:?}",
        library.display()
    );
    run(archiver().arg("d").arg(library).args(&members));
    run(archiver().arg("rcs").arg(library).args(objects));
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn platform_defines(target_os: &str) -> &'static [&'static str] {
    match target_os {
        "linux" => LINUX,
        "macos" => MACOS,
        "freebsd" => FREEBSD,
        other => panic!("libzmq's platform defines are not known for target system {other}"),
    }
}

/// Adds the defines to what the user has in `CXXFLAGS`.
///
/// `cc` joins `CXXFLAGS` with its target-specific forms (`CXXFLAGS_x86_64-unknown-linux-gnu`, …),
/// so the plain variable reaches every target and overrides nothing. `CXX` is left alone.
fn append_to_cxxflags(defines: &[&str]) {
    let mut flags = env::var("CXXFLAGS").unwrap_or_default();
    for define in defines {
        flags.push_str(" -D");
        flags.push_str(define);
        if !define.contains('=') {
            flags.push_str("=1");
        }
    }
    // SAFETY: this build script has one thread here.
    unsafe { env::set_var("CXXFLAGS", flags.trim_start()) };
}

/// Where `libsodium-sys-stable` put the library: cargo hands on what its build script printed.
fn libsodium() -> zeromq_src::LibLocation {
    zeromq_src::LibLocation::new(
        PathBuf::from(required("DEP_SODIUM_LIB")),
        PathBuf::from(required("DEP_SODIUM_INCLUDE")),
    )
}

fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: zmq-sys needs cargo, and libsodium built from source or found by pkg-config")
    })
}
