/* Makes the plugin table visible to abidiff: no exported function of libdsopt.so mentions it. */
#include "dsopt/backend.h"

DSOPT_API dsopt_status dsopt_abi_probe(const dsopt_backend_api* table, const dsopt_host_api* host);
DSOPT_API dsopt_status dsopt_abi_probe(const dsopt_backend_api* table, const dsopt_host_api* host) {
  return table != NULL && host != NULL ? DSOPT_OK : DSOPT_E_INVALID_ARGUMENT;
}
