package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Operator is one who may sign on to the admin API.
type Operator struct {
	Name    string     `json:"name"`
	Role    string     `json:"role"`  // viewer, operator, admin
	Token   bool       `json:"token"` // has one; else signs on by a certificate
	Created time.Time  `json:"created"`
	Rotated *time.Time `json:"rotated,omitempty"` // the token, last
	Expires *time.Time `json:"expires,omitempty"`
	Expired bool       `json:"expired,omitempty"`
}

// OperatorToken is an operator with the token that was made, which is shown in this
// answer and nowhere else. It is empty for one who signs on by a certificate.
type OperatorToken struct {
	Operator
	Secret string `json:"secret,omitempty"`
}

// OperatorAdd asks for an operator.
type OperatorAdd struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Expires is for how long it may sign on, as in 720h; "" is without an end.
	Expires string `json:"expires,omitempty"`
	// Certificate: no token is made.
	Certificate bool `json:"certificate,omitempty"`
}

// OperatorRotate asks for a new token. One who signs on by a certificate is given
// none unless Token says so; Expires alone changes for how long it may sign on.
type OperatorRotate struct {
	Expires string `json:"expires,omitempty"` // "": as before; never: without an end
	Token   bool   `json:"token,omitempty"`   // also for one who has signed on by a certificate until now
	Force   bool   `json:"force,omitempty"`   // also if the last admin who does not expire will
}

// Operators lists all by name.
func (c *Client) Operators(ctx context.Context) ([]Operator, error) {
	return get[[]Operator](ctx, c, "/operators")
}

// AddOperator makes an operator.
func (c *Client) AddOperator(ctx context.Context, req OperatorAdd) (OperatorToken, error) {
	return send[OperatorToken](ctx, c, http.MethodPost, "/operators", req)
}

// RotateOperator gives an operator a new token; the one before is void at once. The
// answer has no token where none was made.
func (c *Client) RotateOperator(ctx context.Context, name string, req OperatorRotate) (OperatorToken, error) {
	return send[OperatorToken](ctx, c, http.MethodPost, "/operators/"+url.PathEscape(name)+"/rotate", req)
}

// DeleteOperator takes an operator away; force also the last admin.
func (c *Client) DeleteOperator(ctx context.Context, name string, force bool) error {
	path := "/operators/" + url.PathEscape(name)
	if force {
		path += "?force=true"
	}
	_, err := send[struct{}](ctx, c, http.MethodDelete, path, nil)
	return err
}
