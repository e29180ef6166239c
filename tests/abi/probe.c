/* Makes every public type and signature reachable from one exported function, so that abidiff compares them: the
 * signatures of libdsopt.so without the private types behind its handles, and the backend table, which no exported
 * function of libdsopt.so mentions. api_functions.inc is made from the header. */
#include "dsopt/backend.h"

typedef struct dsopt_abi_functions {
#define DSOPT_ABI_FUNCTION(name) __typeof__(name)* name;
#include "api_functions.inc"
#undef DSOPT_ABI_FUNCTION
} dsopt_abi_functions;

DSOPT_API dsopt_status dsopt_abi_probe(const dsopt_abi_functions* functions, const dsopt_backend_api* table,
                                       const dsopt_host_api* host);
DSOPT_API dsopt_status dsopt_abi_probe(const dsopt_abi_functions* functions, const dsopt_backend_api* table,
                                       const dsopt_host_api* host) {
  return functions != NULL && table != NULL && host != NULL ? DSOPT_OK : DSOPT_E_INVALID_ARGUMENT;
}
