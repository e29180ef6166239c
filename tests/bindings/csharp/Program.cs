// Program.cs - dsopt_csharp_test.exe MODEL [part of a sentence]        the scenarios of tests/bindings/README.md
//              dsopt_csharp_test.exe MODEL --memory CYCLES             resident memory over many cycles
namespace Dsopt.Tests
{
    public static class Program
    {
        public static int Main(string[] args)
        {
            if (args.Length < 1)
            {
                System.Console.Error.WriteLine(
                    "usage: dsopt_csharp_test.exe MODEL [part of a sentence | --memory CYCLES]");
                return 2;
            }
            Demo.ModelPath = args[0];
            bool memory = args.Length == 3 && args[1] == "--memory";
            var runner = new Runner(!memory && args.Length > 1 ? args[1] : null);
            if (memory)
            {
                LifetimeTests.RunMemory(runner, int.Parse(args[2]));
            }
            else
            {
                LoadTests.Run(runner);
                StreamTests.Run(runner);
                StateTests.Run(runner);
                ErrorTests.Run(runner);
                TextTests.Run(runner);
                CallbackTests.Run(runner);
                LifetimeTests.Run(runner);
                ThreadTests.Run(runner);
            }
            return runner.Finish();
        }
    }
}
