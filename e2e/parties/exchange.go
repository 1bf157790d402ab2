package main

import (
	"context"
	"net/url"
	"os"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/client/tokenexchange"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// wish is what an agent wants: a token for a resource, for the user of SubjectToken, or for itself if there is none.
type wish struct {
	SubjectToken     string   `json:"subject_token"`
	SubjectTokenType string   `json:"subject_token_type"`
	Resource         string   `json:"resource"`
	Scopes           []string `json:"scopes"`
}

// given is what came of it.
type given struct {
	AccessToken string   `json:"access_token"`
	TokenType   string   `json:"token_type"`
	Scopes      []string `json:"scopes"`
}

// exchangeWithZitadel uses a client that knows RFC 8693 and finds the token endpoint by discovery.
func exchangeWithZitadel(ctx context.Context, want wish) (given, error) {
	issuer, client, err := broker()
	if err != nil {
		return given{}, err
	}
	own, err := os.ReadFile(os.Getenv("DEPUTY_TOKEN_FILE"))
	if err != nil {
		return given{}, err
	}
	exchanger, err := tokenexchange.NewTokenExchanger(ctx, issuer, tokenexchange.WithHTTPClient(client))
	if err != nil {
		return given{}, err
	}
	subject, kind, actor, actorKind := want.SubjectToken, oidc.TokenType(want.SubjectTokenType), string(own), oidc.JWTTokenType
	if subject == "" {
		// It then sends actor_token and actor_token_type with nothing in them.
		subject, kind, actor, actorKind = string(own), oidc.JWTTokenType, "", ""
	}
	answer, err := tokenexchange.ExchangeToken(ctx, exchanger, subject, kind, actor, actorKind,
		[]string{want.Resource}, nil, want.Scopes, oidc.AccessTokenType)
	if err != nil {
		return given{}, err
	}
	return given{answer.AccessToken, answer.TokenType, answer.Scopes}, nil
}

// exchangeWithOAuth2 uses a client that knows nothing of exchanges and lets its grant type be replaced.
func exchangeWithOAuth2(ctx context.Context, want wish) (given, error) {
	issuer, client, err := broker()
	if err != nil {
		return given{}, err
	}
	own, err := os.ReadFile(os.Getenv("DEPUTY_TOKEN_FILE"))
	if err != nil {
		return given{}, err
	}
	parameters := url.Values{
		"grant_type":         {string(oidc.GrantTypeTokenExchange)},
		"resource":           {want.Resource},
		"subject_token":      {string(own)},
		"subject_token_type": {string(oidc.JWTTokenType)},
	}
	if want.SubjectToken != "" {
		parameters.Set("subject_token", want.SubjectToken)
		parameters.Set("subject_token_type", want.SubjectTokenType)
		parameters.Set("actor_token", string(own))
		parameters.Set("actor_token_type", string(oidc.JWTTokenType))
	}
	config := clientcredentials.Config{
		TokenURL:       issuer + "/token",
		Scopes:         want.Scopes,
		EndpointParams: parameters,
		// Left to find out, it sends what is refused twice.
		AuthStyle: oauth2.AuthStyleInParams,
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return given{}, err
	}
	scopes, _ := token.Extra("scope").(string)
	return given{token.AccessToken, token.TokenType, strings.Fields(scopes)}, nil
}
