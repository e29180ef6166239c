// Turn.cs - a fair lock. Readers poll in a tight loop; with an unfair one they would keep everybody else waiting.
using System.Threading;

namespace Dsopt
{
    // First come, first served; the thread that has it may take it again.
    internal sealed class Turn
    {
        private readonly object gate = new object();
        private long nextTicket, serving;
        private Thread owner;
        private int depth;

        public void Enter()
        {
            lock (gate)
            {
                if (owner != Thread.CurrentThread)
                {
                    long ticket = nextTicket++;
                    while (ticket != serving) Monitor.Wait(gate);
                    owner = Thread.CurrentThread;
                }
                ++depth;
            }
        }

        public void Exit()
        {
            lock (gate)
            {
                if (--depth > 0) return;
                owner = null;
                ++serving;
                Monitor.PulseAll(gate);
            }
        }
    }
}
