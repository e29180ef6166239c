// Session.cs - cache memory and the schedule of the streams that share it; where all work is done.
using System;
using System.Collections.Generic;
using System.Threading;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>Cache memory for streams, and the place where they make progress: inside <see cref="Poll"/>,
    /// <see cref="Wait"/> and the readers of <see cref="Stream"/>, on the calling thread.</summary>
    /// <remarks>
    /// The readers (<see cref="Stream.Read(CancellationToken)"/>, <see cref="Stream.ReadAsync(CancellationToken)"/>)
    /// and all other methods of a session and its streams take turns, whatever threads they are called on. Poll and
    /// Wait take no turn: while one of them runs, any other call but Interrupt, Cancel, Stats and Dispose from another
    /// thread, or from inside a callback, throws <see cref="DsoptBusyException"/>.
    /// </remarks>
    public sealed class Session : IDisposable
    {
        private static readonly TimeSpan StepBudget = TimeSpan.FromMilliseconds(2);
        private const ulong LongestStepWaitUs = 500;

        private readonly SessionHandle handle;
        private readonly HashSet<EventReceiver> receivers = new HashSet<EventReceiver>(); // generations in progress
        private readonly List<EventReceiver> retired = new List<EventReceiver>();         // both under lock (receivers)
        private dsopt_poll_result spareResult;

        internal readonly PendingExceptions Thrown = new PendingExceptions();
        internal readonly Turn Turn = new Turn();

        internal Session(Model model, SessionOptions options)
        {
            Model = model;
            using (dsopt_session_options raw = options.ToRaw())
                handle = new SessionHandle(Status.CheckHandle(DsoptNative.session_create(model.Handle, raw)));
        }

        /// <summary>The model that it runs.</summary>
        public Model Model { get; private set; }

        /// <summary>What it has done so far.</summary>
        public SessionStats Stats
        {
            get
            {
                using (var raw = new dsopt_session_stats())
                {
                    Status.Check(DsoptNative.dsopt_session_get_stats(Handle, raw));
                    return new SessionStats(raw);
                }
            }
        }

        internal SessionHandle Handle
        {
            get
            {
                Require.NotDisposed(handle, "Session");
                return handle;
            }
        }

        /// <summary>Makes an empty stream.</summary>
        public Stream CreateStream()
        {
            Turn.Enter();
            try
            {
                return new Stream(this, new StreamHandle(Status.CheckHandle(DsoptNative.stream_create(Handle))));
            }
            finally
            {
                Turn.Exit();
            }
        }

        /// <summary>Works on the streams for about so long and returns: once per frame, with what is left of
        /// it.</summary>
        /// <param name="budget">time to spend; zero or less: only collect what a device has finished;
        /// <see cref="Timeout.InfiniteTimeSpan"/>: until nothing generates</param>
        /// <remarks>Callbacks run inside. What one throws is thrown on by this call, and cancels its stream; several at
        /// once come as an <see cref="AggregateException"/>.</remarks>
        public PollResult Poll(TimeSpan budget)
        {
            dsopt_poll_result raw = Interlocked.Exchange(ref spareResult, null) ?? new dsopt_poll_result();
            try
            {
                bool finished = Status.Check(DsoptNative.dsopt_session_poll(Handle, Require.Microseconds(budget), raw));
                Settle();
                return new PollResult(raw, finished);
            }
            finally
            {
                spareResult = raw;
            }
        }

        /// <summary>Works until there is an event or nothing generates.</summary>
        /// <param name="timeout">at most so long; <see cref="Timeout.InfiniteTimeSpan"/>: no limit</param>
        /// <param name="cancellation">ends the wait with <see cref="DsoptCancelledException"/>; the streams go
        /// on</param>
        /// <remarks>Callbacks run inside, as in <see cref="Poll"/>.</remarks>
        public WaitResult Wait(TimeSpan timeout, CancellationToken cancellation = default(CancellationToken))
        {
            SessionHandle native = Handle;
            int status;
            using (cancellation.Register(InterruptOf, this))
                status = DsoptNative.dsopt_session_wait(native, Require.Microseconds(timeout));
            Exception failure = status < 0 ? Status.Last(status) : null;
            Settle();
            if (cancellation.IsCancellationRequested)
            {
                // An interrupt that came too late for this wait must not end the next one.
                if (status != (int)DsoptStatus.Cancelled) DsoptNative.dsopt_session_poll(native, 0, null);
                throw new DsoptCancelledException("wait: cancelled by its CancellationToken", cancellation);
            }
            if (status == (int)DsoptStatus.Timeout) return WaitResult.Timeout;
            if (status == (int)DsoptStatus.Cancelled) return WaitResult.Interrupted;
            if (failure != null) throw failure;
            return WaitResult.Event;
        }

        /// <summary>Makes a poll or wait in progress return within 2 ms, from any thread; if there is none, the next
        /// one. The streams keep their progress.</summary>
        public void Interrupt()
        {
            DsoptNative.dsopt_session_interrupt(Handle);
        }

        /// <summary>Gives back memory that is not needed now. The cache stays.</summary>
        public void Trim()
        {
            InTurn(() => DsoptNative.session_trim(Handle));
        }

        /// <summary>From now on the streams hold at most so many bytes of cache, in whole pages.</summary>
        /// <param name="bytes">0: all that the session was made with</param>
        /// <remarks>Pages already held stay. A stream that needs one more page while the limit is reached ends with
        /// <see cref="DsoptDeviceMemoryException"/> and may go on when pages were given back; the others are not touched.
        /// <see cref="SessionStats.CacheTokensTotal"/> says what the limit allows.</remarks>
        public void SetCacheLimit(long bytes)
        {
            Require.NotNegative(bytes, "bytes");
            InTurn(() => DsoptNative.dsopt_session_set_cache_limit(Handle, (ulong)bytes));
        }

        /// <summary>Releases the session. Its streams stay usable for what needs no work.</summary>
        public void Dispose()
        {
            handle.Dispose();
            EventReceiver[] all;
            lock (receivers)
            {
                all = new EventReceiver[receivers.Count];
                receivers.CopyTo(all);
                receivers.Clear();
                retired.Clear();
            }
            foreach (EventReceiver receiver in all) receiver.Dispose();
        }

        // ---- for Stream and its readers -----------------------------------------------------------

        // A raw call that must be alone on the session. true: finished; false: DSOPT_PENDING.
        internal bool InTurn(Func<int> call)
        {
            Turn.Enter();
            try
            {
                return Status.Check(call());
            }
            finally
            {
                Turn.Exit();
            }
        }

        // The same for one that gives a length.
        internal int LengthInTurn(Func<long> call)
        {
            Turn.Enter();
            try
            {
                return Status.CheckLength(call());
            }
            finally
            {
                Turn.Exit();
            }
        }

        // One bounded piece of work; false when nothing generates any more. Not Wait(): that returns at once while
        // another stream has events that nobody reads. It is good for sleeping while a device works.
        internal bool Step()
        {
            Turn.Enter();
            try
            {
                PollResult result = Poll(StepBudget);
                ulong sleepUs = Math.Min(Require.Microseconds(result.SuggestedWait), LongestStepWaitUs);
                if (!result.Finished && sleepUs > 0)
                {
                    DsoptNative.dsopt_session_wait(Handle, sleepUs);
                    Settle();
                }
                return !result.Finished;
            }
            finally
            {
                Turn.Exit();
            }
        }

        // Lets a cancelled stream end now. What callbacks throw meanwhile waits for the next poll.
        internal void ApplyCancellations()
        {
            if (handle.IsClosed) return;
            Turn.Enter();
            try
            {
                DsoptNative.dsopt_session_poll(handle, 0, null);
            }
            catch (ObjectDisposedException)
            {
                // Disposed of by another thread: there is nothing left to end.
            }
            finally
            {
                Turn.Exit();
            }
        }

        internal void Keep(EventReceiver receiver)
        {
            lock (receivers) receivers.Add(receiver);
        }

        // Called inside the receiver's own callback: it is let go when the poll is over.
        internal void Retire(EventReceiver receiver)
        {
            lock (receivers) retired.Add(receiver);
        }

        internal void Drop(EventReceiver receiver)
        {
            lock (receivers) receivers.Remove(receiver);
            receiver.Dispose();
        }

        // After native code has run callbacks.
        private void Settle()
        {
            EventReceiver[] over = null;
            lock (receivers)
            {
                if (retired.Count > 0)
                {
                    over = retired.ToArray();
                    retired.Clear();
                }
            }
            if (over != null)
            {
                foreach (EventReceiver receiver in over) Drop(receiver);
            }
            Thrown.Rethrow();
        }

        private static void InterruptOf(object session)
        {
            SessionHandle native = ((Session)session).handle;
            try
            {
                DsoptNative.dsopt_session_interrupt(native);
            }
            catch (ObjectDisposedException)
            {
                // Then nothing waits any more.
            }
        }
    }
}
