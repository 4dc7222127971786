//! Listeners at the limit of open files, and at the limit that the program sets.
//!
//! Out of descriptors the released ipc listener ends the process, and the TCP listener is woken for
//! the same connection without end. Here both take it with a spare descriptor and close it, and
//! a program can keep descriptors for itself (`muster_limit_descriptors`).

use super::Change;

pub const CHANGES: &[Change] = &[
    // A listener survives the limit of open files, and does not spin at it.
    Change {
        file: "ipc_listener.cpp",
        released: "#include \"ipc_listener.hpp\"\n",
        ours: "#include \"ipc_listener.hpp\"\n#include \"spare_descriptor.hpp\"\n",
    },
    Change {
        file: "ipc_listener.cpp",
        released: "    zmq_assert (_s != retired_fd);
#if defined ZMQ_HAVE_SOCK_CLOEXEC",
        ours: "    zmq_assert (_s != retired_fd);
    spare_descriptor_t::keep ();
#if defined ZMQ_HAVE_SOCK_CLOEXEC",
    },
    Change {
        file: "ipc_listener.cpp",
        released: "                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENFILE);
#endif",
        ours: "                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
        spare_descriptor_t::refuse_when_out (_s, errno);
#endif",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "#include \"tcp_listener.hpp\"\n",
        ours: "#include \"tcp_listener.hpp\"\n#include \"newcomers.hpp\"\n\
               #include \"spare_descriptor.hpp\"\n",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "    zmq_assert (_s != retired_fd);

    struct sockaddr_storage ss;",
        ours: "    zmq_assert (_s != retired_fd);
    spare_descriptor_t::keep ();

    struct sockaddr_storage ss;",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "#else
        errno_assert (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
#endif",
        ours: "#else
        errno_assert (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
        spare_descriptor_t::refuse_when_out (_s, errno);
#endif",
    },
    // A TCP listener hangs up on newcomers when there are as many connections as there may be.
    Change {
        file: "tcp_listener.cpp",
        released: "    make_socket_noninheritable (sock);

    if (!options.tcp_accept_filters.empty ()) {",
        ours: "    if (!newcomers_t::has_room (sock, options.mechanism != ZMQ_NULL)) {
        ::close (sock);
        errno = EMFILE;
        return retired_fd;
    }
    make_socket_noninheritable (sock);

    if (!options.tcp_accept_filters.empty ()) {",
    },
];
