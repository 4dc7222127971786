/* Muster's addition to libzmq 4.3.5. */

#ifndef MUSTER_SPARE_DESCRIPTOR_HPP_INCLUDED
#define MUSTER_SPARE_DESCRIPTOR_HPP_INCLUDED

#include <atomic>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace zmq
{
//  A descriptor kept in reserve by all listeners of the process. With none left, a listener can
//  neither take a connection nor get rid of it, and its poller would report it again at once, for
//  ever. The reserve is given up for a moment to take the connection and close it.
class spare_descriptor_t
{
  public:
    //  Makes the reserve, unless it is there.
    static void keep ()
    {
        int none = -1;
        std::atomic<int> &spare = descriptor ();
        if (spare.load () == -1) {
            const int fd = ::open ("/dev/null", O_RDONLY | O_CLOEXEC);
            if (!spare.compare_exchange_strong (none, fd) && fd != -1)
                ::close (fd);
        }
    }

    //  Closes the next waiting connection of this listener when accept failed with this error for
    //  want of descriptors. Leaves errno at that error.
    static void refuse_when_out (int listener_, int error_)
    {
        if (error_ == EMFILE || error_ == ENFILE) {
            const int spare = descriptor ().exchange (-1);
            if (spare != -1) {
                ::close (spare);
                const int peer = ::accept (listener_, NULL, NULL);
                if (peer != -1)
                    ::close (peer);
            }
            keep ();
        }
        errno = error_;
    }

  private:
    static std::atomic<int> &descriptor ()
    {
        static std::atomic<int> spare (-1);
        return spare;
    }
};
}

#endif
