import torch, math, sys
sys.path.insert(0,'/work/main')
torch.set_num_threads(1)
from wsae_plugin.optimality.coded import Coded, matched_penalty
from wsae_plugin.optimality import nonnegative_lasso, best_support
D64=torch.float64
def world(seed,d=32,m=40,n=3000,p=.08,noise=.03,hier=True):
    g=torch.Generator().manual_seed(seed)
    A=torch.randn(m,d,generator=g,dtype=D64); A/=A.norm(dim=1,keepdim=True)
    on=torch.rand(n,m,generator=g)<p
    if hier: # child 1 fires only with parent 0
        on[:,1]=on[:,0]&(torch.rand(n,generator=g)<.4)
        A[1]-= (A[1]@A[0])*A[0]; A[1]/=A[1].norm()
        on[:,0]|=torch.rand(n,generator=g)<.1
    z=on.double()*(.5+torch.rand(n,m,generator=g,dtype=D64))
    x=z@A+noise*torch.randn(n,d,generator=g,dtype=D64)
    return x,A,z,g
def own_codes(x,atoms,l0,lam=None,z=None):
    lam=lam or .15
    c=nonnegative_lasso(x,atoms,lam)
    best=best_support(x,atoms,(c.values>0).sum(1),c.latents,c.latents[:,:0])
    return Coded(x,atoms,best.latents,best.values)
def lines(of,seed=0):
    lam=matched_penalty(of)
    opt=nonnegative_lasso(of.x,of.atoms,lam,of.latents)
    best=best_support(of.x,of.atoms,of.l0,of.latents,opt.latents)
    same=best_support(of.x,of.atoms,of.l0,of.latents,of.latents[:,:0])
    own=of.residual.square().sum(1)
    r=of.residual
    out={'l0':of.l0.double().mean().item(),'fvu':(own.sum()/of.x.square().sum()).item()}
    out['codes']=1-(best.squared_error.sum()/own.sum()).item()
    out['same']=1-(same.squared_error.sum()/own.sum()).item()
    # dictionary cross-fit
    n=len(of.x); m=len(of.atoms)
    Z=torch.zeros(n,m+1,dtype=D64).scatter_(1,best.latents%(m+1),best.values)[:,:-1]
    h=n//2; gains=0; base=0
    for a,b in ((slice(0,h),slice(h,n)),(slice(h,n),slice(0,h))):
        R=of.x-Z@of.atoms
        G=Z[a].T@Z[a]; 
        dD=torch.linalg.solve(G+0.01*G.diagonal().mean()*torch.eye(m,dtype=D64)+1e-9*torch.eye(m,dtype=D64),Z[a].T@R[a])
        base+=R[b].square().sum(); gains+=(R[b]-Z[b]@dD).square().sum()
    out['dictionary']=1-(gains/base).item()
    along=torch.einsum('nad,nd->na',of.atoms[of.latents.clamp(min=0)],r)
    out['prune']=(((of.values>0)&(2*along+of.values<=0)).sum()/of.l0.sum()).item()
    cos=of.atoms@of.atoms.T
    out['antipodal']=((cos<-.9).any(1).double().mean()).item()
    co=(cos-torch.eye(m,dtype=D64)).amax().item(); out['maxcos']=co
    zo=torch.zeros(n,m+1,dtype=D64).scatter_(1,opt.latents%(m+1),opt.values)[:,:-1]
    ro=of.x-zo@of.atoms
    out['width']=(ro.norm(dim=1)>lam).double().mean().item()
    # excess residual structure: top eigen share of residual second moment of best codes
    # split: per-atom top eig of z^2-weighted residual outer, vs shuffle
    rb=of.x-Z@of.atoms
    sc=[];nul=[]
    g=torch.Generator().manual_seed(seed)
    for j in range(m):
        on=(Z[:,j]>0).nonzero().flatten()
        if len(on)<40: continue
        w=Z[on,j]
        dj=of.atoms[j]
        def top(R):
            P=R-(R@dj)[:,None]*dj
            return torch.linalg.svdvals(P*w[:,None])[0]**2/(w**2).sum()
        sc.append(top(rb[on])); nul.append(top(rb[torch.randint(n,(len(on),),generator=g)]))
    s=torch.stack(sc)/torch.stack(nul); out['split']=s.max().item(); out['split_med']=s.median().item()
    # absorption: for pairs j (child) k(parent): parent's silent, direction present
    best_abs=0
    on=(Z>0)
    for c in range(m):
        for p_ in range(m):
            if p_==c or cos[c,p_]<.4: continue
            pc=on[:,c]
            if pc.sum()<30: continue
            joint=(on[pc,p_]).double().mean().item(); base=on[:,p_].double().mean().item()
            if joint< .5*base: best_abs=max(best_abs, cos[c,p_].item())
    out['absorb']=best_abs
    return out,lam
def defects(seed):
    x,A,z,g=world(seed)
    m,d=A.shape
    yield 'clean', own_codes(x,A,None)
    B=A.clone(); B[1]=(A[0]+A[1])/2**.5; yield 'absorbed', own_codes(x,B,None)
    t=torch.randn(d,generator=g,dtype=D64); t-=(t@A[5])*A[5]; t/=t.norm()
    B=torch.cat([A,(A[5]+.35*t)[None]]); B[5]=A[5]-.35*t; B/=B.norm(dim=1,keepdim=True); yield 'split', own_codes(x,B,None)
    B=torch.cat([A,-A[7][None]]); yield 'antipodal',own_codes(x,B,None)
    keep=torch.ones(m,dtype=torch.bool); keep[10:18]=False; yield 'narrow', own_codes(x,A[keep],None)
    # narrow by merging two features into one atom
    B=A.clone(); B[20]=(A[20]+A[21])/ (A[20]+A[21]).norm(); keep=torch.ones(m,dtype=torch.bool); keep[21]=False; yield 'merged', own_codes(x,B[keep],None)
    R=torch.randn(24,d,generator=g,dtype=D64); R/=R.norm(dim=1,keepdim=True); yield 'wide', own_codes(x,torch.cat([A,R]),None)
    B=A+.15*torch.randn(m,d,generator=g,dtype=D64)/d**.5*3; B/=B.norm(dim=1,keepdim=True); yield 'early', own_codes(x,B,None)
    of=own_codes(x,A,None); v=of.values*(1+.2*torch.randn(of.values.shape,generator=g,dtype=D64)).clamp(min=.1); 
    yield 'encoder', Coded(of.x,of.atoms,of.latents,v)
import collections
for seed in range(int(sys.argv[1])):
    for name,of in defects(seed):
        o,lam=lines(of,seed)
        print(f"{seed} {name:10s} lam {lam:.3f} "+' '.join(f"{k} {v:.3f}" for k,v in o.items()),flush=True)
