# Open WebUI keeps these settings in its database after the first start; later, change them under Admin Settings, Connections.
# --network host lets the container reach a gateway on this machine.
docker run -d --name open-webui --network host -v open-webui:/app/backend/data \
  -e PORT=3000 -e OPENAI_API_BASE_URL="@BASE_URL@" -e OPENAI_API_KEY="$SLUICEGATE_CLIENT_KEY" \
+ca   -v "@CA@:/gateway-ca.pem:ro" -e SSL_CERT_FILE=/gateway-ca.pem \
  ghcr.io/open-webui/open-webui:main
