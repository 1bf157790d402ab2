package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

// doubt is what a resource asks before it does anything: an AuthZEN question, put to the issuer of the tokens with the
// resource's own token, a file.
type doubt struct {
	Issuer     string          `json:"issuer"`
	Authority  string          `json:"authority"`
	TokenFile  string          `json:"token_file"`
	Evaluation json.RawMessage `json:"evaluation"`
}

func evaluate(ctx context.Context, doubt doubt) (json.RawMessage, error) {
	client, err := trusting(doubt.Authority)
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile(doubt.TokenFile)
	if err != nil {
		return nil, err
	}
	url := doubt.Issuer + "/access/v1/evaluation"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(doubt.Evaluation))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(own))
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", answer.Status, body)
	}
	return body, nil
}
