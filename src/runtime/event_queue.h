// event_queue.h - what a stream has produced and the host has not seen yet. Consecutive text events merge, so a
// host that reads rarely costs memory for its text, not for its events.
#ifndef DSOPT_RUNTIME_EVENT_QUEUE_H_
#define DSOPT_RUNTIME_EVENT_QUEUE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "dsopt/dsopt.h"

namespace dsopt {

// [thread-compatible] Push never allocates within what Reserve asked for.
class EventQueue {
 public:
  // Forgets everything and prepares for a generation: room for what a host that polls each frame lets collect.
  void Start(bool logprobs, uint32_t top_count);
  // Room for one more token with up to text_bytes of text, now and right after a Read.
  void Reserve(size_t text_bytes);

  void PushToken(dsopt_token token, float logprob, const dsopt_token* top_tokens, const float* top_logprobs);
  std::string* text() { return &pending_.text; }         // append to it
  void PushEnd(dsopt_finish finish, dsopt_code status);  // the last event

  uint32_t count() const { return (pending_.empty() ? 0u : 1u) + (end_pending_ ? 1u : 0u); }
  // Fills *event with pointers that stay valid until the next Read or Start. False: nothing is there.
  bool Read(dsopt_event* event);
  // Returns spare memory. Pointers of the last event become invalid.
  void Trim();
  size_t capacity_bytes() const { return pending_.capacity_bytes() + delivered_.capacity_bytes(); }

 private:
  struct Chunk {
    std::string text;
    std::vector<dsopt_token> tokens, top_tokens;
    std::vector<float> logprobs, top_logprobs;
    bool empty() const { return tokens.empty() && text.empty(); }
    void Clear();
    void Reserve(size_t token_count, size_t text_bytes, bool with_logprobs, uint32_t top_count);
    size_t capacity_bytes() const;
  };

  Chunk pending_, delivered_;
  bool logprobs_ = false;
  uint32_t top_count_ = 0;
  bool end_pending_ = false;
  dsopt_finish finish_ = DSOPT_FINISH_NONE;
  dsopt_code status_ = DSOPT_OK;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_EVENT_QUEUE_H_
