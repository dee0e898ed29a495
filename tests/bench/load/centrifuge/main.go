// The peer centrifuge: one channel for each symbol, into which the newest quote is published once a turn.
//
// Conflation: with -conflate app the program keeps the newest trade of each symbol and publishes it once a turn; with
// -conflate library every trade is published and the library keeps the newest one for each connection and channel
// (GetChannelBatchConfig with FlushLatestPublication). With -frugal the options that its authors name for many idle
// connections are set. Commands come by lines, answers go by lines of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"
)

type trade struct {
	price float64
	event int64
}

type peer struct {
	node     *centrifuge.Node
	quote    string
	names    []string
	perTrade bool
	perBeat  int
	feeding  atomic.Bool
	mu       sync.Mutex
	newest   map[string]trade
}

func (p *peer) publish(name string, t trade) {
	fields := strings.NewReplacer("SYMBOL", name, "PRICE", strconv.FormatFloat(t.price, 'f', 2, 64),
		"EVENT_TS", strconv.FormatInt(t.event, 10), "SENT_TS", strconv.FormatInt(time.Now().UnixNano(), 10))
	if _, err := p.node.Publish(name, []byte(fields.Replace(p.quote))); err != nil {
		log.Fatal(err)
	}
}

func (p *peer) feed(every time.Duration) {
	price := 100.0
	for range time.Tick(every) {
		if !p.feeding.Load() {
			continue
		}
		for beat := 0; beat < p.perBeat; beat++ {
			price += 0.01
			now := trade{price, time.Now().UnixNano()}
			for _, name := range p.names {
				p.take(name, now)
			}
		}
	}
}

func (p *peer) take(name string, now trade) {
	if p.perTrade {
		p.publish(name, now)
		return
	}
	p.mu.Lock()
	p.newest[name] = now
	p.mu.Unlock()
}

func (p *peer) turns(tick time.Duration) {
	for range time.Tick(tick) {
		p.mu.Lock()
		newest := p.newest
		p.newest = make(map[string]trade, len(p.names))
		p.mu.Unlock()
		for name, t := range newest {
			p.publish(name, t)
		}
	}
}

func (p *peer) obey() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name := strings.Fields(lines.Text())[0]
		switch name {
		case "feed":
			p.feeding.Store(true)
		case "quiet":
			p.feeding.Store(false)
		case "settle":
			debug.FreeOSMemory()
		}
		tell(map[string]any{"event": name})
	}
}

func tell(facts map[string]any) {
	text, _ := json.Marshal(facts)
	fmt.Println(string(text))
}

func newNode(perTrade bool, tick time.Duration, frugal bool) *centrifuge.Node {
	config := centrifuge.Config{LogLevel: centrifuge.LogLevelError}
	if perTrade {
		config.GetChannelBatchConfig = func(string) centrifuge.ChannelBatchConfig {
			return centrifuge.ChannelBatchConfig{MaxDelay: tick, FlushLatestPublication: true}
		}
	}
	node, err := centrifuge.New(config)
	if err != nil {
		log.Fatal(err)
	}
	reply := centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "bench"}}
	if frugal {
		reply.WriteDelay, reply.WriteWithTimer, reply.ReplyWithoutQueue = 5*time.Millisecond, true, true
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return reply, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	return node
}

func main() {
	tickMs := flag.Int("tick-ms", 50, "length of a turn")
	feedMs := flag.Int("feed-ms", 5, "time between two beats of the feeder")
	perBeat := flag.Int("trades-per-beat", 2, "trades of each symbol in a beat")
	symbols := flag.String("symbols", "", "their names, with commas between them")
	quote := flag.String("quote", "", "a quote with SYMBOL, PRICE, EVENT_TS and SENT_TS to be put in")
	conflate := flag.String("conflate", "app", "app or library")
	frugal := flag.Bool("frugal", false, "the options for many idle connections")
	flag.Parse()
	tick := time.Duration(*tickMs) * time.Millisecond
	node := newNode(*conflate == "library", tick, *frugal)
	p := &peer{
		node: node, quote: *quote, names: strings.Split(*symbols, ","), perTrade: *conflate == "library",
		perBeat: *perBeat, newest: map[string]trade{},
	}
	socket := centrifuge.WebsocketConfig{
		UseWriteBufferPool: true,
		PingPongConfig:     centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1},
	}
	if *frugal {
		socket.ReadBufferSize, socket.ProcessCommandsOffReadLoop = 512, true
	}
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, socket))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, nil)) }()
	go p.feed(time.Duration(*feedMs) * time.Millisecond)
	if !p.perTrade {
		go p.turns(tick)
	}
	tell(map[string]any{"event": "port", "port": listener.Addr().(*net.TCPAddr).Port})
	p.obey()
}
