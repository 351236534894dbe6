# Paste into the shell in which you start claude, or write the values under "env" of ~/.claude/settings.json.
export ANTHROPIC_BASE_URL="@BASE_URL@"
export ANTHROPIC_AUTH_TOKEN="$SLUICEGATE_CLIENT_KEY"
# An API key in the environment would be used instead of the token.
unset ANTHROPIC_API_KEY
+ca export NODE_EXTRA_CA_CERTS="@CA@"
claude -p "Say hello." --model "@MODEL@"
