package main

import (
	"context"

	"golang.org/x/oauth2"
)

// credentials are what somebody logs in with, at an identity provider whose certificate is of that authority, a file.
type credentials struct {
	TokenURL  string   `json:"token_url"`
	Authority string   `json:"authority"`
	Client    string   `json:"client"`
	Secret    string   `json:"secret"`
	Username  string   `json:"username"`
	Password  string   `json:"password"`
	Scopes    []string `json:"scopes"`
}

// loggedIn is what comes of it.
type loggedIn struct {
	AccessToken string `json:"access_token"`
}

func login(ctx context.Context, with credentials) (loggedIn, error) {
	client, err := trusting(with.Authority)
	if err != nil {
		return loggedIn{}, err
	}
	config := oauth2.Config{
		ClientID: with.Client, ClientSecret: with.Secret, Scopes: with.Scopes,
		Endpoint: oauth2.Endpoint{TokenURL: with.TokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	}
	token, err := config.PasswordCredentialsToken(context.WithValue(ctx, oauth2.HTTPClient, client), with.Username, with.Password)
	if err != nil {
		return loggedIn{}, err
	}
	return loggedIn{token.AccessToken}, nil
}
