package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
)

// serveTools is an MCP server of the official SDK with one tool, whoami, which says what the token says of its bearer. Not in
// an agent's pod: RESOURCE is its identifier, ISSUER whose tokens it takes, CA_FILE what it trusts that one by.
func serveTools(ctx context.Context) error {
	client, err := trusting(os.Getenv("CA_FILE"))
	if err != nil {
		return err
	}
	verify, err := discovered(ctx, os.Getenv("ISSUER"), client, os.Getenv("RESOURCE"))
	if err != nil {
		return err
	}
	verifier := func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		claims, err := verify(ctx, token)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", auth.ErrInvalidToken, err)
		}
		subject, _ := claims["sub"].(string)
		scope, _ := claims["scope"].(string)
		seconds, _ := claims["exp"].(float64)
		expires := time.Unix(int64(seconds), 0)
		return &auth.TokenInfo{UserID: subject, Scopes: strings.Fields(scope), Expiration: expires, Extra: claims}, nil
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "whoami", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami", Description: "Who calls, and for whom"}, whoami)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	guarded := auth.RequireBearerToken(verifier, &auth.RequireBearerTokenOptions{Scopes: []string{"read"}})(handler)
	listening := http.Server{Addr: ":8080", Handler: guarded, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		listening.Close()
	}()
	if err := listening.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type nothing struct{}

func whoami(_ context.Context, request *mcp.CallToolRequest, _ nothing) (*mcp.CallToolResult, map[string]any, error) {
	claims := request.Extra.TokenInfo.Extra
	return nil, map[string]any{"sub": claims["sub"], "act": claims["act"], "scope": claims["scope"]}, nil
}

// call is a call of whoami at Endpoint with a token.
type call struct {
	Endpoint string `json:"endpoint"`
	Token    string `json:"token"`
}

// callTool is the official SDK's client. What the tool says is the answer.
func callTool(ctx context.Context, call call) (any, error) {
	bearer := oauth2.NewClient(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: call.Token}))
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: call.Endpoint, HTTPClient: bearer, DisableStandaloneSSE: true, MaxRetries: -1,
	}, nil)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "whoami", Arguments: nothing{}})
	if err != nil {
		return nil, err
	}
	said, err := json.Marshal(result.StructuredContent)
	if err != nil || result.IsError {
		return nil, fmt.Errorf("the tool failed: %s", said)
	}
	return result.StructuredContent, nil
}
