# Paste into a shell.
curl -sSN --fail-with-body "@BASE_URL@/chat/completions" \
+ca   --cacert "@CA@" \
  -H "authorization: Bearer $SLUICEGATE_CLIENT_KEY" -H "content-type: application/json" \
  -d '{"model": "@MODEL@", "stream": true, "messages": [{"role": "user", "content": "Say hello."}]}'
