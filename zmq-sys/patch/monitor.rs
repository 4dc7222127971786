//! A monitor that nobody reads any more does not stop the thread that reports to it.
//!
//! Otherwise a context never ends when a socket goes away together with its monitor's reader.

use super::Change;

pub const CHANGES: &[Change] = &[
    Change {
        file: "socket_base.cpp",
        released: "                memcpy (data + sizeof (event), &value, sizeof (value));
                zmq_msg_send (&msg, _monitor_socket, ZMQ_SNDMORE);
",
        ours: "                memcpy (data + sizeof (event), &value, sizeof (value));
                //  Its queue has no limit, so only for want of a reader can
                //  this fail; the released call then waits for one for ever.
                if (zmq_msg_send (&msg, _monitor_socket,
                                  ZMQ_SNDMORE | ZMQ_DONTWAIT)
                    == -1) {
                    zmq_msg_close (&msg);
                    break;
                }
",
    },
    Change {
        file: "socket_base.cpp",
        released: "                memcpy (zmq_msg_data (&msg), endpoint_uri.c_str (),
                        endpoint_uri.size ());
                zmq_msg_send (&msg, _monitor_socket, 0);
",
        ours: "                memcpy (zmq_msg_data (&msg), endpoint_uri.c_str (),
                        endpoint_uri.size ());
                if (zmq_msg_send (&msg, _monitor_socket, ZMQ_DONTWAIT) == -1)
                    zmq_msg_close (&msg);
",
    },
];
