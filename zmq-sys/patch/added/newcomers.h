/* Muster's addition to libzmq 4.3.5: what the program tells it. */

#ifndef MUSTER_NEWCOMERS_H_INCLUDED
#define MUSTER_NEWCOMERS_H_INCLUDED

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* TCP listeners hang up on connections whose descriptor is not below these numbers, the first for
   listeners without keys and the second for those with. By default there is no limit. */
void muster_limit_descriptors (int keyless_, int keyed_);

/* How many connections were hung up on for that. */
uint64_t muster_newcomers_refused (void);

#ifdef __cplusplus
}
#endif

#endif
