# Paste into the shell in which you start aider. `openai/` before the model means the OpenAI-compatible API.
export OPENAI_API_BASE="@BASE_URL@"
export OPENAI_API_KEY="$SLUICEGATE_CLIENT_KEY"
+ca export SSL_CERT_FILE="@CA@"
aider --model "openai/@MODEL@" --message "Say hello." --yes-always --no-git
