// RuntimeOptions.cs - what a Runtime is made with, and the log lines it gives.
using System;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>How much the library says in its log.</summary>
    public enum LogLevel
    {
        /// <summary>The library's default: warnings and errors.</summary>
        Default = dsopt_log_level.DSOPT_LOG_DEFAULT,
        /// <summary>Errors.</summary>
        Error = dsopt_log_level.DSOPT_LOG_ERROR,
        /// <summary>Warnings and errors.</summary>
        Warn = dsopt_log_level.DSOPT_LOG_WARN,
        /// <summary>What happened, too.</summary>
        Info = dsopt_log_level.DSOPT_LOG_INFO,
        /// <summary>Everything.</summary>
        Debug = dsopt_log_level.DSOPT_LOG_DEBUG,
        /// <summary>Nothing.</summary>
        Off = dsopt_log_level.DSOPT_LOG_OFF,
    }

    /// <summary>One line of the library's log.</summary>
    public sealed class LogMessage
    {
        internal LogMessage(LogLevel level, string component, string text)
        {
            Level = level;
            Component = component;
            Text = text;
        }

        /// <summary>How serious it is.</summary>
        public LogLevel Level { get; private set; }

        /// <summary>The part of the library that says it.</summary>
        public string Component { get; private set; }

        /// <summary>One line, without its end.</summary>
        public string Text { get; private set; }
    }

    /// <summary>What a <see cref="Runtime"/> is made with. Every default is the library's own.</summary>
    public sealed class RuntimeOptions
    {
        /// <summary>Compute threads, the caller included; 0: all cores; 1: no workers.</summary>
        public int CpuThreads { get; set; }

        /// <summary>Receives the log; null: silent. Runs on any thread, possibly several at once, until the runtime is
        /// disposed of. What it throws is dropped.</summary>
        public Action<LogMessage> Log { get; set; }

        /// <summary>Which lines <see cref="Log"/> receives.</summary>
        public LogLevel LogLevel { get; set; }

        /// <summary>Most bytes of host memory that the runtime and all that it makes may hold at once; 0: no limit, and
        /// memory is not counted. <see cref="long.MaxValue"/> counts only: see
        /// <see cref="Runtime.HostMemoryUsed"/>.</summary>
        public long HostMemoryLimit { get; set; }

        /// <summary>Do not look for plugins such as the CUDA backend; <see cref="Runtime.LoadBackend"/> still loads
        /// them.</summary>
        public bool DisableBackendScan { get; set; }

        /// <summary>Folder of the plugins; null: that of the native library.</summary>
        public string BackendPath { get; set; }

        /// <summary>"scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni" or "avx512_bf16": at most this one; null: the best.</summary>
        public string CpuVariant { get; set; }
    }

    internal sealed class LogReceiver : ILogReceiver
    {
        private readonly Action<LogMessage> log;

        public LogReceiver(Action<LogMessage> log)
        {
            this.log = log;
        }

        public void OnLog(int level, string component, string message)
        {
            log(new LogMessage((LogLevel)level, component, message));
        }
    }
}
