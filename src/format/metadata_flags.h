// metadata_flags.h - the numbers of the bits in which the metadata keeps booleans, and the names of features that a
// file may require. A reader refuses what it does not know, so that a newer behaviour is never silently left out.
#ifndef DSOPT_FORMAT_METADATA_FLAGS_H_
#define DSOPT_FORMAT_METADATA_FLAGS_H_

#include "spec/tokenizer_spec.h"

namespace dsopt {

// Some tensor has an encoding.
inline constexpr char kEncodingsFeature[] = "encodings";

// Element i is bit i. Only append.
inline constexpr bool TokenizerSpec::*kTokenizerFlags[] = {
    &TokenizerSpec::merges_by_id,
    &TokenizerSpec::ignore_merges,
    &TokenizerSpec::byte_fallback,
    &TokenizerSpec::fuse_unknown,
    &TokenizerSpec::strip_left,
    &TokenizerSpec::strip_right,
    &TokenizerSpec::nfc,
    &TokenizerSpec::nfkc,
    &TokenizerSpec::add_dummy_prefix,
    &TokenizerSpec::prefix_first_only,
    &TokenizerSpec::prefix_unless_space,
    &TokenizerSpec::escape_spaces,
    &TokenizerSpec::collapse_spaces,
    &TokenizerSpec::add_prefix_space,
    &TokenizerSpec::strip_leading_space,
};
inline constexpr bool AddedToken::*kAddedFlags[] = {&AddedToken::special, &AddedToken::lstrip,
                                                    &AddedToken::rstrip, &AddedToken::single_word,
                                                    &AddedToken::normalized};

}  // namespace dsopt
#endif  // DSOPT_FORMAT_METADATA_FLAGS_H_
