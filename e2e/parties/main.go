// The program parties is made of clients, verifiers and servers that other people have written, so that the end-to-end
// suite can see how Deputy gets along with them. What is here only wires them up: it reads a question as JSON from standard
// input and writes the answer as JSON to standard output, or what went wrong to standard error.
//
// In an agent's pod it finds the broker as any program would: by DEPUTY_ISSUER, DEPUTY_TOKEN_FILE and DEPUTY_CA_FILE.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// parties by the word one is called by.
var parties = map[string]func(context.Context) error{
	"evaluate":         answering(evaluate),
	"exchange-oauth2":  answering(exchangeWithOAuth2),
	"exchange-zitadel": answering(exchangeWithZitadel),
	"login":            answering(login),
	"mcp-call":         answering(callTool),
	"mcp-serve":        serveTools,
	"verify-go-jose":   answering(verifyWithGoJose),
	"verify-go-oidc":   answering(verifyWithGoOIDC),
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 || parties[os.Args[1]] == nil {
		return errors.New("usage: parties PARTY < QUESTION.json; see main.go for who is here")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return parties[os.Args[1]](ctx)
}

// answering makes a party of one that is asked once.
func answering[Q, A any](party func(context.Context, Q) (A, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		var question Q
		if err := json.NewDecoder(os.Stdin).Decode(&question); err != nil {
			return fmt.Errorf("the question: %w", err)
		}
		answer, err := party(ctx, question)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(answer)
	}
}

// trusting is an HTTP client that believes the certificates of one authority, a file with PEM, and no other.
func trusting(authority string) (*http.Client, error) {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", authority)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}

// broker is Deputy's broker as an agent's pod knows it: its issuer, and a client that reaches it.
func broker() (issuer string, client *http.Client, err error) {
	client, err = trusting(os.Getenv("DEPUTY_CA_FILE"))
	return os.Getenv("DEPUTY_ISSUER"), client, err
}
