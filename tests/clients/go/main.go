// A client of marketfeed.v1.MarketData in another language, made of nothing but the published proto.
//
// Arguments: the server's address, a symbol, and how many trades to take. Prints one line of JSON for each answer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"client/marketfeedv1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type line map[string]any

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, symbol, count string) error {
	wanted, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := marketfeedv1.NewMarketDataClient(connection)
	_, err = client.GetReferencePrice(ctx, &marketfeedv1.GetReferencePriceRequest{Symbol: "NOPE"})
	print(line{"refused": status.Code(err).String(), "reason": reason(err)})
	price, err := client.GetReferencePrice(ctx, &marketfeedv1.GetReferencePriceRequest{Symbol: symbol, MaxAgeMs: 10000})
	if err != nil {
		return err
	}
	print(line{"price_nanos": price.PriceNanos})
	return follow(ctx, client, symbol, wanted)
}

// follow takes trades until it has enough, prints each, and then where it would go on.
func follow(ctx context.Context, client marketfeedv1.MarketDataClient, symbol string, wanted int) error {
	stream, err := client.StreamTrades(ctx, &marketfeedv1.StreamTradesRequest{Symbols: []string{symbol}})
	if err != nil {
		return err
	}
	for taken := 0; taken < wanted; {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if acknowledged := message.GetAcknowledged(); acknowledged != nil {
			print(line{"status": acknowledged.Symbols[symbol].String()})
		}
		tape := message.GetTape()
		for i, price := range tape.GetPrice() {
			print(line{
				"symbol": tape.Symbols[tape.SymbolIndex[i]], "price": price, "size": tape.Size[i],
				"partition": tape.Partition, "offset": tape.Offset[i], "index": tape.Index[i],
			})
			taken++
		}
	}
	return nil
}

// reason is what the server says to programs.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

func print(what line) {
	text, _ := json.Marshal(what)
	fmt.Println(string(text))
}
