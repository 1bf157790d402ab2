package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// shown is a token that somebody shows to the resource of this audience.
type shown struct {
	Token    string `json:"token"`
	Audience string `json:"audience"`
}

// verifyWithGoOIDC finds keys and algorithms by discovery.
func verifyWithGoOIDC(ctx context.Context, shown shown) (map[string]any, error) {
	issuer, client, err := broker()
	if err != nil {
		return nil, err
	}
	verifier, err := discovered(ctx, issuer, client, shown.Audience)
	if err != nil {
		return nil, err
	}
	return verifier(ctx, shown.Token)
}

// discovered verifies tokens of an issuer for one audience, with go-oidc and what the issuer says of itself.
func discovered(ctx context.Context, issuer string, client *http.Client, audience string) (
	func(context.Context, string) (map[string]any, error), error,
) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		return nil, err
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: audience})
	return func(ctx context.Context, token string) (map[string]any, error) {
		verified, err := verifier.Verify(ctx, token)
		if err != nil {
			return nil, err
		}
		var claims map[string]any
		return claims, verified.Claims(&claims)
	}, nil
}

// verifyWithGoJose reads the published keys and judges the claims itself.
func verifyWithGoJose(ctx context.Context, shown shown) (map[string]any, error) {
	issuer, client, err := broker()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/jwks", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&keys); err != nil {
		return nil, fmt.Errorf("the keys: %w", err)
	}
	token, err := jwt.ParseSigned(shown.Token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		return nil, err
	}
	var registered jwt.Claims
	var claims map[string]any
	if err := token.Claims(keys, &registered, &claims); err != nil {
		return nil, err
	}
	expected := jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{shown.Audience}, Time: time.Now()}
	return claims, registered.Validate(expected)
}
