// ChatMessage.cs - one turn of a conversation.
using System;

namespace Dsopt
{
    /// <summary>One turn of a conversation, for <see cref="Model.FormatChat"/> and
    /// <see cref="Stream.AppendChat"/>.</summary>
    public sealed class ChatMessage
    {
        /// <summary>Makes a turn.</summary>
        /// <param name="role">"system", "user", "assistant", "tool"</param>
        /// <param name="content">what was said</param>
        public ChatMessage(string role, string content)
        {
            if (role == null) throw new ArgumentNullException("role");
            if (content == null) throw new ArgumentNullException("content");
            Role = role;
            Content = content;
        }

        /// <summary>Who says it.</summary>
        public string Role { get; private set; }

        /// <summary>What was said.</summary>
        public string Content { get; private set; }
    }
}
