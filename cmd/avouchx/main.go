// Command avouchx is temporary.
package main
import ("context";"fmt";"os";"github.com/alecthomas/kong")
var version="dev"
const exitLacks=3
type exit struct{code int; err error}
func (e *exit) Error() string {return e.err.Error()}
func lacks(f string,a ...any) error {return &exit{3,fmt.Errorf(f,a...)}}
func main(){
 var r struct{ Json bool; Dev devCmd `cmd:""`; Serve serveCmd `cmd:""`; Migrate migrateCmd `cmd:""` }
 k:=kong.Parse(&r)
 ctx:=context.Background(); var err error
 switch k.Command(){
 case "dev": err=r.Dev.run(ctx,os.Stdout,logger(os.Stderr,false),r.Json)
 case "serve": err=r.Serve.run(ctx,os.Stdout,logger(os.Stderr,false),r.Json)
 case "migrate": err=r.Migrate.run(ctx,os.Stdout,r.Json)
 }
 if err!=nil {fmt.Fprintln(os.Stderr,"avouch:",err); os.Exit(3)}
}
