//! What children inherit, and limits.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use muster_proto::socket::{Context, Kind, Profile, Wake, Watch, raise_file_limit};

use crate::{SetOnDrop, context, dial, listen, nonce, open, receive, send};

/// A child that only waits for its input to end.
struct Waiting(Child);

impl Waiting {
    fn start() -> Self {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cat runs");
        Self(child)
    }

    /// Descriptors beyond standard input, output and error, and what they are.
    fn descriptors(&self) -> BTreeMap<i32, String> {
        let folder = format!("/proc/{}/fd", self.0.id());
        fs::read_dir(folder)
            .expect("a living child")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| {
                let number = path.file_name().unwrap().to_string_lossy().parse().unwrap();
                let target = fs::read_link(&path).map(|to| to.display().to_string());
                (number, target.unwrap_or_default())
            })
            .filter(|(number, _)| *number > 2)
            .collect()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_child_started_at_any_moment_inherits_no_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let context = context();
    let (router, endpoint) = listen(
        &context,
        Kind::Router,
        Profile::Workers {
            disconnect: nonce(),
        },
    );
    router
        .bind(&format!("ipc://{}/s", folder.path().display()))
        .unwrap();
    let _monitor = router.monitor(Watch::Links).unwrap();
    let _events = listen(&context, Kind::Pub, Profile::Events);
    let _wake = Wake::new().unwrap();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = SetOnDrop(&done);
        // Connections come and go meanwhile, so that children start between any two system calls.
        let churn = scope.spawn(|| {
            let mut links = 0;
            while !done.load(Ordering::Relaxed) {
                let context = Context::new(1).unwrap();
                let dealer = dial(&context, Kind::Dealer, Profile::DataLink, &endpoint);
                send(&dealer, [b"x"]);
                let ipc = open(&context, Kind::Dealer, Profile::DataLink);
                ipc.connect(&format!("ipc://{}/s", folder.path().display()))
                    .unwrap();
                send(&ipc, [b"x"]);
                links += 2;
            }
            links
        });
        receive(&router);
        for _ in 0..60 {
            let child = Waiting::start();
            // Whoever started the tests may have left it files or pipes; libzmq has neither.
            for (number, target) in child.descriptors() {
                assert!(
                    !target.starts_with("socket:") && !target.starts_with("anon_inode:"),
                    "the child has descriptor {number}: {target}"
                );
            }
        }
        drop(end);
        assert!(churn.join().unwrap() > 0);
    });
}

#[test]
fn limits_of_files_and_sockets_are_raised() {
    let context = context();
    let (before, now) = raise_file_limit();
    // The context did it already.
    assert_eq!(before, now);
    assert_eq!(context.sockets_max() as u64, now.min(65_535));

    // More than libzmq's default of 1,023, each with a descriptor of its own.
    let count = usize::try_from(now / 4).unwrap().min(2_000);
    let sockets: Vec<_> = (0..count)
        .map(|_| {
            open(
                &context,
                Kind::Dealer,
                Profile::Lane {
                    credit: 1,
                    heartbeat: true,
                },
            )
        })
        .collect();
    assert_eq!(sockets.len(), count);
}
