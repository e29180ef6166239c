package ai.dsopt;

import ai.dsopt.raw.NativeEvent;
import ai.dsopt.raw.dsopt_device_info;
import ai.dsopt.raw.dsopt_model_info;
import ai.dsopt.raw.dsopt_poll_result;
import ai.dsopt.raw.dsopt_session_memory;
import ai.dsopt.raw.dsopt_session_options;
import ai.dsopt.raw.dsopt_session_stats;
import java.time.Duration;
import java.time.temporal.ChronoUnit;

/** Native structs as records. */
final class Records {
  private Records() {}

  static DeviceInfo device(dsopt_device_info raw) {
    return new DeviceInfo(Check.string(raw.getId()), Check.string(raw.getName()),
        DeviceInfo.Kind.of(raw.getKind()), (int) raw.getArch(), (int) raw.getMultiprocessors(),
        raw.getMemory_total(), raw.getMemory_free(), (int) raw.getPreferred_rows());
  }

  static ModelInfo model(dsopt_model_info raw) {
    return new ModelInfo(Check.string(raw.getArchitecture()), Check.string(raw.getDevice()),
        (int) raw.getVocab_size(), (int) raw.getContext_length(), (int) raw.getLayer_count(),
        raw.getParameter_count(), raw.getWeight_bytes(), raw.getKv_bytes_per_token(), raw.getBos(),
        raw.getEos(), raw.getPad(), raw.getLoaded() != 0);
  }

  static PollResult poll(dsopt_poll_result raw) {
    return new PollResult((int) raw.getActive_streams(), (int) raw.getReady_events(),
        (int) raw.getTokens_sampled(), micros(raw.getSpent_us()), micros(raw.getSuggested_wait_us()));
  }

  /** To be deleted. */
  static dsopt_session_options sessionOptions(SessionOptions options) {
    Check.notNull(options, "options");
    dsopt_session_options raw = new dsopt_session_options();
    try {
      raw.setMax_streams(Check.notNegative(options.maxStreams(), "options.maxStreams"));
      raw.setMax_tokens(Check.notNegative(options.maxTokens(), "options.maxTokens"));
      raw.setPrefill_chunk(Check.notNegative(options.prefillChunk(), "options.prefillChunk"));
      raw.setDevice_slice_us(Check.notNegative(options.deviceSliceMicros(), "options.deviceSliceMicros"));
      raw.setKv_dtype(Check.notNull(options.cacheType(), "options.cacheType").value);
      raw.setPrecision(Check.notNull(options.precision(), "options.precision").ordinal());
      raw.setMax_cache_bytes(Check.range(options.maxCacheBytes(), Long.MAX_VALUE, "options.maxCacheBytes"));
      raw.setMax_device_bytes(Check.range(options.maxDeviceBytes(), Long.MAX_VALUE, "options.maxDeviceBytes"));
      raw.setMax_host_cache_bytes(
          Check.range(options.maxHostCacheBytes(), Long.MAX_VALUE, "options.maxHostCacheBytes"));
      return raw;
    } catch (DsoptException failure) {
      raw.delete();
      throw failure;
    }
  }

  static SessionMemory memory(dsopt_session_memory raw) {
    return new SessionMemory(raw.getPage_tokens(), raw.getWanted_tokens(), raw.getTokens(),
        raw.getWanted_cache_bytes(), raw.getCache_bytes(), raw.getWorkspace_bytes(), raw.getHost_bytes(),
        raw.getDevice_free_bytes(), raw.getHost_cache_bytes(), raw.getHost_tokens());
  }

  static SessionStats stats(dsopt_session_stats raw) {
    return new SessionStats(raw.getKv_tokens_used(), raw.getKv_tokens_total(), raw.getBatches(),
        raw.getPrefill_tokens(), micros(raw.getPrefill_us()), raw.getDecode_tokens(),
        micros(raw.getDecode_us()), raw.getHost_bytes(), raw.getDevice_bytes(),
        raw.getKv_host_tokens_used(), raw.getKv_host_tokens_total(), raw.getReplayed_batches());
  }

  static Event event(NativeEvent raw) {
    return new Event(Event.Kind.of(raw.kind()), Check.string(raw.text_array()), raw.token_array(),
        Finish.of(raw.finish()), Status.of(raw.status()), raw.has_logprobs() ? raw.logprob_array() : null,
        (int) raw.top_count(), raw.top_count() > 0 ? raw.top_token_array() : null,
        raw.top_count() > 0 ? raw.top_logprob_array() : null);
  }

  private static Duration micros(long micros) {
    return Duration.of(micros, ChronoUnit.MICROS);
  }
}
