// Utf8.cs - text on its way in and out of the library: always UTF-8 bytes, never the marshaller's own conversion, which
// depends on the platform and breaks characters above U+FFFF.
using System;
using System.Runtime.InteropServices;
using System.Text;

namespace Dsopt
{
    internal static class Utf8
    {
        private static readonly UTF8Encoding Strict = new UTF8Encoding(false, true);
        private static readonly UTF8Encoding Lenient = new UTF8Encoding(false, false);

        // A raw function that fills a buffer and gives the full length, or a status below 0.
        public delegate long FillBytes(byte[] buffer, ulong capacity);

        // Throws ArgumentNullException, and ArgumentException for an unpaired surrogate.
        public static byte[] Bytes(string text, string name)
        {
            if (text == null) throw new ArgumentNullException(name);
            try
            {
                return Strict.GetBytes(text);
            }
            catch (EncoderFallbackException e)
            {
                string message = name + ": unpaired surrogate at index " + e.Index + ", expected valid UTF-16";
                throw new ArgumentException(message, name, e);
            }
        }

        // For arguments that end at their NUL.
        public static byte[] Terminated(string text, string name)
        {
            byte[] bytes = Bytes(text, name);
            int nul = Array.IndexOf(bytes, (byte)0);
            if (nul >= 0) throw new ArgumentException(name + ": NUL at byte " + nul + ", expected none", name);
            Array.Resize(ref bytes, bytes.Length + 1);
            return bytes;
        }

        public static byte[] TerminatedOrNull(string text, string name)
        {
            return text == null ? null : Terminated(text, name);
        }

        // Bytes that are not UTF-8 become U+FFFD.
        public static string Decode(byte[] bytes, int count)
        {
            return Lenient.GetString(bytes, 0, count);
        }

        // A NUL-terminated string of the library.
        public static string Read(IntPtr text)
        {
            if (text == IntPtr.Zero) return "";
            int length = 0;
            while (Marshal.ReadByte(text, length) != 0) ++length;
            var bytes = new byte[length];
            Marshal.Copy(text, bytes, 0, length);
            return Decode(bytes, length);
        }

        // Asks for the length, then for the bytes, again if they have grown meanwhile.
        public static byte[] ReadBytes(FillBytes fill)
        {
            var buffer = new byte[256];
            int length;
            while ((length = Status.CheckLength(fill(buffer, (ulong)buffer.Length))) >= buffer.Length)
                buffer = new byte[(long)length + 1];
            Array.Resize(ref buffer, length);
            return buffer;
        }

        public static string ReadText(FillBytes fill)
        {
            byte[] bytes = ReadBytes(fill);
            return Decode(bytes, bytes.Length);
        }
    }
}
